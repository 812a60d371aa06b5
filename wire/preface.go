package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// What is said before a session stands. The acceptor's answer makes the dialer
// wait until its certificate was looked at, which TLS 1.3 does not, and tells
// it in words why there is no session. Part of the format.
const (
	maxPreface = 64  // bytes of the lane's line
	maxAnswer  = 512 // bytes of the answer's line

	answerYes = "ok"
	answerNo  = "no " // and the reason
)

// tlsHandshake is the first byte of a TLS connection.
const tlsHandshake = 0x16

// readLine reads up to a newline, byte by byte, since what follows is not ours.
// The error comes with what was read before it.
func readLine(conn net.Conn, limit int) (string, error) {
	line := make([]byte, 0, limit)
	for len(line) < limit {
		b := line[len(line) : len(line)+1]
		if _, err := io.ReadFull(conn, b); err != nil {
			return string(line), err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = line[:len(line)+1]
		if b[0] == tlsHandshake && len(line) == 1 {
			return string(line), errors.New("this is TLS")
		}
	}
	return string(line), fmt.Errorf("no line ends within %d bytes", limit)
}

// readPreface reads the first line of an unencrypted connection.
func readPreface(conn net.Conn) (Lane, error) {
	line, err := readLine(conn, maxPreface)
	switch {
	case err != nil && strings.HasPrefix(line, string(rune(tlsHandshake))):
		// Not TLS either: the peer's own check then says what is wrong.
		_ = writeAnswer(conn, errors.New("no TLS here"))
		return "", errors.New("the peer speaks TLS and this node does not: give this node its certificate (standbyfs ca issue NAME, then tls.dir or --tls)")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", fmt.Errorf("it said nothing in time that names a lane: %w", err)
	case err != nil:
		return "", fmt.Errorf("it said nothing that names a lane: %w", err)
	}
	return Lane(line), nil
}

// writeAnswer tells the dialer that there will be a session, or why not.
func writeAnswer(conn net.Conn, refused error) error {
	answer := answerYes
	if refused != nil {
		answer = answerNo + refused.Error()
	}
	_, err := io.WriteString(conn, answer+"\n")
	return err
}

// readAnswer returns nil if there will be a session.
func readAnswer(conn net.Conn) error {
	line, err := readLine(conn, maxAnswer)
	reason, refused := strings.CutPrefix(line, answerNo)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the peer did not answer in time: %w", err)
	case err != nil:
		return fmt.Errorf("the peer gave no answer: %w", err)
	case refused:
		return &Refusal{Code: CodeLane, Message: reason}
	case line != answerYes:
		return fmt.Errorf("the peer is no standbyfs node: it answered %q", line)
	}
	return nil
}

// refusePlain answers a peer that does not speak TLS, if that is what the
// handshake failed with, in a way that it understands.
func refusePlain(handshake error) {
	var record tls.RecordHeaderError
	if errors.As(handshake, &record) && record.Conn != nil {
		// It learns at least that the connection was closed.
		_ = writeAnswer(record.Conn, errors.New("the peer speaks TLS and this node does not: give this node its certificate (standbyfs ca issue NAME, then tls.dir or --tls)"))
	}
}
