package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// How long certificates last. Ten years for the CA; a node's are made anew
// with one command.
const (
	caLife   = 10 * 365 * 24 * time.Hour
	nodeLife = 825 * 24 * time.Hour
)

const caKeyFile = "ca.key"

// InitCA makes a certificate authority in dir: ca.crt, which every node gets,
// and ca.key, which none does. It never overwrites one.
func InitCA(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory of the CA: %w", err)
	}
	for _, name := range []string{caFile, caKeyFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s is there already: every node's certificate rests on it; remove it by hand to begin anew", filepath.Join(dir, name))
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("key of the CA: %w", err)
	}
	t, err := template("standbyfs CA", caLife)
	if err != nil {
		return err
	}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return fmt.Errorf("certificate of the CA: %w", err)
	}
	return writePair(filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile), der, key)
}

// Issue makes a certificate for a node in dir/name, from the CA in dir: ca.crt,
// node.crt and node.key, all that the node needs. Hosts are the names and
// addresses it is reached by; loopback and its own name are always among them.
func Issue(dir, name string, hosts []string) (string, error) {
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return "", fmt.Errorf("name %q: want one that can be a directory", name)
	}
	ca, key, err := loadCA(dir)
	if err != nil {
		return "", err
	}
	t, err := template(name, nodeLife)
	if err != nil {
		return "", err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, h := range append([]string{name, "localhost", "127.0.0.1", "::1"}, hosts...) {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("key of %s: %w", name, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, own.Public(), key)
	if err != nil {
		return "", fmt.Errorf("certificate of %s: %w", name, err)
	}
	to := filepath.Join(dir, name)
	if err := os.Mkdir(to, 0o700); errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("%s is there already: remove it to issue a new certificate for %s", to, name)
	} else if err != nil {
		return "", fmt.Errorf("directory of %s: %w", name, err)
	}
	if err := writePair(filepath.Join(to, certFile), filepath.Join(to, keyFile), der, own); err != nil {
		return "", err
	}
	return to, writePEM(filepath.Join(to, caFile), "CERTIFICATE", ca.Raw, 0o644)
}

func template(name string, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(life),
	}, nil
}

func loadCA(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert, err := readPEM(filepath.Join(dir, caFile))
	if err != nil {
		return nil, nil, fmt.Errorf("%w (standbyfs ca init makes the CA)", err)
	}
	key, err := readPEM(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, nil, fmt.Errorf("%w (standbyfs ca init makes the CA)", err)
	}
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of the CA: %w", err)
	}
	k, err := x509.ParseECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("key of the CA: %w", err)
	}
	return c, k, nil
}

func readPEM(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}
	return block.Bytes, nil
}

// writePair writes the key first: a certificate is there only with its key.
func writePair(certPath, keyPath string, cert []byte, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode %s: %w", keyPath, err)
	}
	if err := writePEM(keyPath, "EC PRIVATE KEY", der, 0o600); err != nil {
		return err
	}
	return writePEM(certPath, "CERTIFICATE", cert, 0o644)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	return errors.Join(err, f.Sync(), f.Close())
}
