package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// Each wrong set-up says on both sides what is wrong and what to do.
func TestRefusedHandshakes(t *testing.T) {
	ours, theirs := certificates(t), certificates(t)
	anonymous := ours.Client.Clone()
	anonymous.Certificates = nil
	trusting := theirs.Client.Clone() // takes our certificate, has one of its own CA
	trusting.RootCAs = ours.Client.RootCAs
	const fix = "standbyfs ca issue NAME"
	for _, c := range []struct {
		name           string
		server, client *tls.Config
		lane           Lane
		dialer         []string
		acceptor       []string
	}{
		{"wrong CA", ours.Server, theirs.Client, LaneOps,
			[]string{"the peer's certificate is not of our CA", fix}, []string{"the peer refused this node's certificate", fix}},
		{"client of a wrong CA", ours.Server, trusting, LaneOps,
			[]string{"the peer refused this node's certificate", fix}, []string{"the peer's certificate is not of our CA", fix}},
		{"no client certificate", ours.Server, anonymous, LaneBulk,
			[]string{"the peer refused this node's certificate", fix}, []string{"didn't provide a certificate", fix}},
		{"plain to TLS", ours.Server, nil, LaneOps,
			[]string{"the peer speaks TLS and this node does not", fix}, []string{"this node speaks TLS and the peer does not", fix}},
		{"TLS to plain", nil, ours.Client, LaneOps,
			[]string{"this node speaks TLS and the peer does not", fix}, []string{"the peer speaks TLS and this node does not", fix}},
		{"lane not served, plain", nil, nil, LaneRaft,
			[]string{`lane "standbyfs-raft/1" is not served`}, []string{`lane "standbyfs-raft/1" is not served`}},
		{"lane not served, TLS", ours.Server, ours.Client, LaneRaft,
			[]string{`lane "standbyfs-raft/1" is not served`}, []string{`lane "standbyfs-raft/1" is not served`}},
		{"unknown lane, plain", nil, nil, "standbyfs-ops/2",
			[]string{`"standbyfs-ops/2" is not served`, "standbyfs-ops/1"}, []string{`"standbyfs-ops/2" is not served`}},
		{"unknown lane, TLS", ours.Server, ours.Client, "standbyfs-ops/2",
			[]string{"no application protocol"}, []string{"standbyfs-ops/2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, accepted := serve(t, c.server)
			s, err := Dial(t.Context(), addr, c.lane, c.client)
			if err == nil {
				s.Close()
			}
			wants(t, "dialer", err, append(c.dialer, addr)...)
			a := await(t, accepted)
			if a.session != nil {
				a.session.Close()
			}
			wants(t, "acceptor", a.err, append(c.acceptor, "connection from 127.0.0.1")...)
		})
	}
}

func TestRefusedLaneIsARefusal(t *testing.T) {
	addr, accepted := serve(t, nil)
	_, err := Dial(t.Context(), addr, LaneRaft, nil)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Code != CodeLane {
		t.Errorf("error %v, want a refusal with code %s", err, CodeLane)
	}
	await(t, accepted)
}

// A certificate is for the hosts it was issued for, whatever CA it is of.
func TestWrongHost(t *testing.T) {
	c := certificates(t)
	l, err := net.Listen("tcp", "127.0.0.2:0") // an address that is in no certificate
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := result(func() error {
		conn, err := l.Accept()
		if err != nil {
			return nil
		}
		_, err = Accept(t.Context(), conn, c.Server)
		return err
	})
	_, err = Dial(t.Context(), l.Addr().String(), LaneOps, c.Client)
	wants(t, "dialer", err, l.Addr().String(), "the peer's certificate is for another host", "standbyfs ca issue NAME --host HOST")
	wants(t, "acceptor", await(t, accepted), "the peer refused this node's certificate")
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, err = Dial(t.Context(), addr, LaneOps, nil)
	wants(t, "dialer", err, addr, "refused")
}

// What connects and does not go on is dropped when the time is up, wherever it
// stopped.
func TestSilentDialer(t *testing.T) {
	for _, said := range []string{"", "standbyfs", string(LaneOps) + "\n"} {
		conn, raw := tcp(t)
		ctx, cancel := context.WithCancel(t.Context())
		got := result(func() error { _, err := Accept(ctx, conn, nil); return err })
		if _, err := io.WriteString(raw, said); err != nil {
			t.Fatal(err)
		}
		if said == string(LaneOps)+"\n" {
			if err := readAnswer(raw); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		wants(t, "acceptor after "+said, await(t, got), "connection from")
	}
	c := certificates(t)
	conn, _ := tcp(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	wants(t, "acceptor", await(t, result(func() error { _, err := Accept(ctx, conn, c.Server); return err })), "connection from")
}

func TestSilentAcceptor(t *testing.T) {
	kinds(t, func(t *testing.T, c *TLS) {
		var client *tls.Config
		if c != nil {
			client = c.Client
		}
		l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody else
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err = Dial(ctx, l.Addr().String(), LaneOps, client)
		wants(t, "dialer", err, l.Addr().String())
	})
}
