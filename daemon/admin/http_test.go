package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode answers what its fields say.
type fakeNode struct {
	status  Status
	inSync  chan struct{} // closed: WaitInSync returns
	waiting chan struct{} // receives one for each WaitInSync that began
	err     error
	asked   PromoteRequest
}

func (f *fakeNode) Status() Status { return f.status }

func (f *fakeNode) Events(n int) ([]Event, error) {
	return []Event{{Time: now, Kind: "count", Text: strings.Repeat("x", n)}}, f.err
}

func (f *fakeNode) WaitInSync(ctx context.Context, n int) error {
	if f.err != nil {
		return f.err
	}
	f.waiting <- struct{}{}
	select {
	case <-f.inSync:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeNode) Repair(_ context.Context, choices []mirror.Choice) ([]mirror.Mended, error) {
	return []mirror.Mended{{Path: choices[0].Path, Error: choices[0].Version}}, f.err
}

func (f *fakeNode) Verify(_ context.Context, versions bool) (*mirror.VerifyReport, error) {
	lsn := op.LSN(7)
	if versions {
		lsn = 8
	}
	return &mirror.VerifyReport{LSN: lsn, Peers: []mirror.PeerVerify{{Name: "beta", Differences: []string{`extra name "x"`}}}}, f.err
}

func (f *fakeNode) Resync(_ context.Context, req ResyncRequest) (ResyncResult, error) {
	return ResyncResult{Mirrors: []string{fmt.Sprint(req)}}, f.err
}

func (f *fakeNode) Promote(_ context.Context, req PromoteRequest) (PromoteResult, error) {
	f.asked = req
	return PromoteResult{Promised: true, Text: []string{"promised"}}, f.err
}

// start serves node in a state directory whose path is longer than a unix
// socket's address can be.
func start(t *testing.T, node Node) (stateDir string) {
	t.Helper()
	stateDir = filepath.Join(t.TempDir(), strings.Repeat("long", 40), "state")
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	serve(t, stateDir, node)
	return stateDir
}

// serve returns what stops the server and waits for it.
func serve(t *testing.T, stateDir string, node Node) (stop func()) {
	t.Helper()
	l, err := Listen(stateDir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, node, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func dialed(t *testing.T, stateDir string) *Client {
	t.Helper()
	c, err := Dial(stateDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCommands(t *testing.T) {
	node := &fakeNode{status: aMirror()}
	dir := start(t, node)
	c := dialed(t, dir)
	ctx := t.Context()

	if st, err := os.Stat(filepath.Join(dir, socketName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v, want mode 0600", st, err)
	}
	s, err := c.Status(ctx)
	if err != nil || s.Name != "beta" || s.Verdict != Healthy {
		t.Errorf("status: %+v, %v", s, err)
	}
	if events, err := c.Events(ctx, 3); err != nil || len(events) != 1 || events[0].Text != "xxx" {
		t.Errorf("events: %+v, %v", events, err)
	}
	if r, err := c.Versions(ctx); err != nil || r.LSN != 8 {
		t.Errorf("verify with versions: %+v, %v", r, err)
	}
	if r, err := c.Repair(ctx, []mirror.Choice{{Path: []byte("\xff"), Version: "v"}}); err != nil || string(r[0].Path) != "\xff" || r[0].Error != "v" {
		t.Errorf("repair: %+v, %v", r, err)
	}
	if r, err := c.Verify(ctx); err != nil || r.LSN != 7 || r.Peers[0].Differences[0] != `extra name "x"` {
		t.Errorf("verify: %+v, %v", r, err)
	}
	if r, err := c.Resync(ctx, ResyncRequest{Mirror: "beta", Pause: true}); err != nil || r.Mirrors[0] != "{beta true}" {
		t.Errorf("resync: %+v, %v", r, err)
	}
	req := PromoteRequest{Mountpoint: "/mnt", Mirrors: []string{"a:1", "b:2"}, Force: true}
	if r, err := c.Promote(ctx, req); err != nil || !r.Promised || r.Text[0] != "promised" {
		t.Errorf("promote: %+v, %v", r, err)
	}
	if node.asked.Mountpoint != "/mnt" || len(node.asked.Mirrors) != 2 || !node.asked.Force {
		t.Errorf("the node was asked %+v", node.asked)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	node := &fakeNode{}
	c := dialed(t, start(t, node))
	for _, row := range []struct {
		err     error
		is, not error
		says    string
	}{
		{Errorf(CodeRefused, "not in sync"), ErrRefused, ErrNotPrimary, "not in sync"},
		{Errorf(CodeNotPrimary, "a mirror"), ErrNotPrimary, ErrRefused, "a mirror"},
		{errors.New("disk full"), &Error{Code: CodeFailed}, ErrRefused, "disk full"},
	} {
		node.err = row.err
		if _, err := c.Promote(t.Context(), PromoteRequest{}); !errors.Is(err, row.is) || errors.Is(err, row.not) || err.Error() != row.says {
			t.Errorf("promote: %v, want %v", err, row.err)
		}
		if err := c.WaitInSync(t.Context(), 1); !errors.Is(err, row.is) {
			t.Errorf("wait: %v, want %v", err, row.err)
		}
	}
}

func TestWaitEndsWithItsClient(t *testing.T) {
	node := &fakeNode{inSync: make(chan struct{}), waiting: make(chan struct{}, 1)}
	c := dialed(t, start(t, node))
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { gone <- c.WaitInSync(ctx, 2) }()
	<-node.waiting
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("a client that gave up: %v", err)
	}
	go func() { gone <- c.WaitInSync(t.Context(), 2) }()
	<-node.waiting
	close(node.inSync)
	if err := <-gone; err != nil {
		t.Errorf("wait: %v", err)
	}
}

func TestStopAnswersWhoWaits(t *testing.T) {
	node := &fakeNode{inSync: make(chan struct{}), waiting: make(chan struct{}, 1)}
	dir := t.TempDir()
	stop := serve(t, dir, node)
	c := dialed(t, dir)
	waited := make(chan error, 1)
	go func() { waited <- c.WaitInSync(t.Context(), 1) }()
	<-node.waiting
	stop()
	if err := <-waited; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("wait on a node that stops: %v", err)
	}
	if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dial after the stop: %v, want ErrNotRunning", err)
	}
	if _, err := os.Stat(filepath.Join(dir, socketName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"no socket": dir, "no directory": filepath.Join(dir, "none")} {
		if _, err := Dial(path); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want ErrNotRunning", name, err)
		}
	}
}

// A killed node leaves its socket behind.
func TestStaleSocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	old, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	old.(*listener).Listener.Close()
	old.(*listener).dir.Close()
	if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dial a stale socket: %v, want ErrNotRunning", err)
	}
	serve(t, dir, &fakeNode{status: aPrimary()})
	if _, err := dialed(t, dir).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBadRequests(t *testing.T) {
	c := dialed(t, start(t, &fakeNode{}))
	if err := c.WaitInSync(t.Context(), -1); err == nil || !strings.Contains(err.Error(), "want a number from 0 up") {
		t.Errorf("wait for -1: %v", err)
	}
	if err := c.do(t.Context(), "POST", "promote", "no object", &struct{}{}); err == nil || !strings.Contains(err.Error(), "read the request") {
		t.Errorf("promote with nonsense: %v", err)
	}
	if err := c.do(t.Context(), "GET", "nothing", nil, &struct{}{}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("unknown path: %v", err)
	}
}
