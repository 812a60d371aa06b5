package main

import (
	"io"
	"log/slog"

	"github.com/standbyfs/standbyfs/cmd/standbyfs/config"
)

// newLogger logs to w as the settings say; both are checked already.
func newLogger(w io.Writer, s config.Log) *slog.Logger {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	options := &slog.HandlerOptions{Level: levels[s.Level]}
	if s.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
