package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// Names of the files in a node's certificate directory.
const (
	caFile   = "ca.crt"
	certFile = "node.crt"
	keyFile  = "node.key"
)

// TLS is what a node needs to speak mutual TLS: each side admits who has a
// certificate of the same CA.
type TLS struct {
	Server *tls.Config
	Client *tls.Config
}

// LoadTLS reads a directory that `standbyfs ca issue` has made.
func LoadTLS(dir string) (*TLS, error) {
	return LoadTLSFiles(filepath.Join(dir, caFile), filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
}

// LoadTLSFiles reads the three files by name.
func LoadTLSFiles(ca, cert, key string) (*TLS, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate of this node: %w (standbyfs ca issue NAME makes one)", err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("certificate of the CA: %w (standbyfs ca init makes one)", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate of the CA: %s holds none in PEM (standbyfs ca issue NAME makes one beside the node's)", ca)
	}
	common := tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS13,
		// Small first records would cost the log a wake-up each.
		DynamicRecordSizingDisabled: true,
	}
	server, client := common.Clone(), common.Clone()
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, pool
	client.RootCAs = pool
	return &TLS{Server: server, Client: client}, nil
}

// certifiedName returns the name in the peer's certificate, which a handshake
// has verified, or other where it has none.
func certifiedName(t *tls.Conn, other string) string {
	if certs := t.ConnectionState().PeerCertificates; len(certs) > 0 && certs[0].Subject.CommonName != "" {
		return certs[0].Subject.CommonName
	}
	return other
}

// explainTLS adds what to do to an error of the handshake or of the answer
// behind it.
func explainTLS(err error) error {
	const sameCA = "standbyfs ca issue NAME, with the CA that the other nodes use"
	var (
		refusal *Refusal
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		network *net.OpError
	)
	switch {
	case errors.As(err, &refusal), errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case errors.As(err, &host):
		return fmt.Errorf("the peer's certificate is for another host: %w (standbyfs ca issue NAME --host HOST)", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("the peer's certificate has expired, or a clock is wrong: %w (standbyfs ca issue NAME)", err)
	case errors.As(err, &verify):
		return fmt.Errorf("the peer's certificate is not of our CA: %w (%s)", err, sameCA)
	case errors.As(err, &record):
		return fmt.Errorf("this node speaks TLS and the peer does not: give the peer its certificate (standbyfs ca issue NAME, then tls.dir or --tls): %w", err)
	case errors.As(err, &network) && network.Op == "remote error":
		return fmt.Errorf("the peer refused this node's certificate: %w (%s)", err, sameCA)
	}
	return fmt.Errorf("TLS with the peer: %w (does it have its certificate? %s)", err, sameCA)
}
