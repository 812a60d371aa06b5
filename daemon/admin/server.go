package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/standbyfs/standbyfs/mirror"
)

// defaultEvents is how many events a listing has unless it asks for more.
const defaultEvents = 100

// largestRequest bounds a request. A repair of 10,000 places may have long paths.
const largestRequest = 64 << 20

// closeWait bounds how long running requests may take to answer once the
// server ends; their contexts have ended by then.
const closeWait = 2 * time.Second

// Serve answers requests on l until ctx ends, closes l and returns once every
// request has been answered. Requests still running then see their context end.
func Serve(ctx context.Context, l net.Listener, node Node, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler(node),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }() // ended by Shutdown or Close, waited for below
	var err error
	select {
	case err = <-served:
		server.Close()
		return fmt.Errorf("serve the admin socket: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
	defer cancel()
	if server.Shutdown(stop) != nil {
		server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin socket: %w", err)
	}
	return nil
}

func handler(node Node) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		s := node.Status()
		s.Judge()
		reply(w, s, nil)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		n, err := number(r, "n", defaultEvents)
		if err != nil {
			reply(w, nil, err)
			return
		}
		events, err := node.Events(n)
		reply(w, events, err)
	})
	mux.HandleFunc("GET /v1/wait", func(w http.ResponseWriter, r *http.Request) {
		n, err := number(r, "in_sync", 1)
		if err == nil {
			err = node.WaitInSync(r.Context(), n)
		}
		reply(w, struct{}{}, err)
	})
	mux.HandleFunc("POST /v1/verify", func(w http.ResponseWriter, r *http.Request) {
		versions, err := number(r, "versions", 0)
		var report *mirror.VerifyReport
		if err == nil {
			report, err = node.Verify(r.Context(), versions > 0)
		}
		reply(w, report, err)
	})
	mux.HandleFunc("POST /v1/repair", func(w http.ResponseWriter, r *http.Request) {
		var choices []mirror.Choice
		var results []mirror.Mended
		err := request(r, &choices)
		if err == nil {
			results, err = node.Repair(r.Context(), choices)
		}
		reply(w, results, err)
	})
	mux.HandleFunc("POST /v1/resync", func(w http.ResponseWriter, r *http.Request) {
		var req ResyncRequest
		var result ResyncResult
		err := request(r, &req)
		if err == nil {
			result, err = node.Resync(r.Context(), req)
		}
		reply(w, result, err)
	})
	mux.HandleFunc("POST /v1/promote", func(w http.ResponseWriter, r *http.Request) {
		var req PromoteRequest
		var result PromoteResult
		err := request(r, &req)
		if err == nil {
			result, err = node.Promote(r.Context(), req)
		}
		reply(w, result, err)
	})
	return mux
}

// request reads the body of a request.
func request(r *http.Request, into any) error {
	if err := json.NewDecoder(io.LimitReader(r.Body, largestRequest)).Decode(into); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

// number reads a query parameter.
func number(r *http.Request, name string, missing int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, Errorf(CodeFailed, "%s=%q: want a number from 0 up", name, text)
	}
	return n, nil
}

// reply writes v, or err as an Error with a status that says its kind.
func reply(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = Errorf(CodeFailed, "%v", err)
		}
		v = e
		switch e.Code {
		case CodeRefused, CodeNotPrimary:
			status = http.StatusConflict
		default:
			status = http.StatusInternalServerError
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the client is gone
}
