package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/standbyfs/standbyfs/mirror"
)

// Client commands the running node of one state directory.
type Client struct {
	http *http.Client
}

// Dial finds the running node of stateDir. The error is ErrNotRunning when
// nobody answers there.
func Dial(stateDir string) (*Client, error) {
	conn, err := dial(context.Background(), stateDir)
	if err != nil {
		return nil, err
	}
	conn.Close()
	return &Client{http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, stateDir)
		},
	}}}, nil
}

// Status returns the node's status, judged.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.do(ctx, http.MethodGet, "status", nil, &s)
}

// Events returns the newest n events, oldest first.
func (c *Client) Events(ctx context.Context, n int) ([]Event, error) {
	var events []Event
	return events, c.do(ctx, http.MethodGet, fmt.Sprintf("events?n=%d", n), nil, &events)
}

// WaitInSync returns nil once n mirrors are in sync, and ErrNotPrimary from a
// node that has none.
func (c *Client) WaitInSync(ctx context.Context, n int) error {
	return c.do(ctx, http.MethodGet, fmt.Sprintf("wait?in_sync=%d", n), nil, &struct{}{})
}

// Verify compares every connected replica with the primary's.
func (c *Client) Verify(ctx context.Context) (mirror.VerifyReport, error) {
	var report mirror.VerifyReport
	return report, c.do(ctx, http.MethodPost, "verify", nil, &report)
}

// Versions is Verify that also finds out who has which version of what differs.
func (c *Client) Versions(ctx context.Context) (mirror.VerifyReport, error) {
	var report mirror.VerifyReport
	return report, c.do(ctx, http.MethodPost, "verify?versions=1", nil, &report)
}

// Repair makes all replicas be of the chosen versions, and says of each choice
// what became of it.
func (c *Client) Repair(ctx context.Context, choices []mirror.Choice) ([]mirror.Mended, error) {
	var results []mirror.Mended
	return results, c.do(ctx, http.MethodPost, "repair", choices, &results)
}

// Resync pauses the resyncs of mirrors or has them go on.
func (c *Client) Resync(ctx context.Context, req ResyncRequest) (ResyncResult, error) {
	var result ResyncResult
	return result, c.do(ctx, http.MethodPost, "resync", req, &result)
}

// Promote makes the mirror the primary. The error is ErrRefused when only
// Force would do it.
func (c *Client) Promote(ctx context.Context, req PromoteRequest) (PromoteResult, error) {
	var result PromoteResult
	return result, c.do(ctx, http.MethodPost, "promote", req, &result)
}

func (c *Client) do(ctx context.Context, method, what string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	// The host is of no meaning: the transport knows only one node.
	req, err := http.NewRequestWithContext(ctx, method, "http://node/v1/"+what, body)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	defer resp.Body.Close()
	decoder := json.NewDecoder(resp.Body)
	if resp.StatusCode != http.StatusOK {
		refusal := &Error{}
		if err := decoder.Decode(refusal); err != nil || refusal.Message == "" {
			return fmt.Errorf("the node answered %s", resp.Status)
		}
		return refusal
	}
	if err := decoder.Decode(out); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	return nil
}
