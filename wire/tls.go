package wire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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
		return nil, fmt.Errorf("%s holds no certificate in PEM", ca)
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

// explainTLS adds what to do to an error of the handshake.
func explainTLS(err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &host):
		return fmt.Errorf("the peer's certificate is for another host: %w (standbyfs ca issue NAME --host HOST)", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("the peer's certificate has expired: %w (standbyfs ca issue NAME)", err)
	case errors.As(err, &unknown), errors.As(err, &verify):
		return fmt.Errorf("the peer's certificate is not of our CA: %w (standbyfs ca issue NAME with the CA that the other nodes use)", err)
	case errors.As(err, &record):
		return fmt.Errorf("the peer does not speak TLS: %w (give it a certificate: standbyfs ca issue NAME)", err)
	case errors.As(err, &alert):
		return fmt.Errorf("the peer refused this node's certificate: %w (standbyfs ca issue NAME with the CA that the other nodes use)", err)
	}
	return fmt.Errorf("TLS: %w (if the peer has no certificate: standbyfs ca issue NAME)", err)
}
