package config

import (
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "512": 512, "512B": 512, "64KiB": 64 << 10, "256 MiB": 256 << 20, "256mib": 256 << 20, "1.5GiB": 3 << 29,
		"2TiB": 2 << 40, "1kB": 1000, "3MB": 3e6, "9223372036854775807": 1<<63 - 1,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v: want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1e3", "1/2", "0x10", "1.5B", "5 0MiB", "10M", "9223372036854775808", "8388608TiB", "1..5KiB", "٣MiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d: want an error", text, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"5s": 5 * time.Second, "500 ms": 500 * time.Millisecond, "1m 30s": 90 * time.Second, "0": 0, "7d": 168 * time.Hour, "1d 12h": 36 * time.Hour, "0d": 0} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v: want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "-5s", "5 seconds", "s", "d", "-1d", "1.5d", "1h2d", "1d2", "1dd", "65536d", "65535d2000000h"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v: want an error", text, got)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "50MiB/s": 50 << 20, "50 MiB /s": 50 << 20, "1GB": 1e9} {
		got, err := ParseRate(text)
		if err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v: want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "/s", "5MiB/m", "-1", "5MiB/s/s"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("ParseRate(%q) = %d: want an error", text, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"0", "64KiB", "1.5GiB", "1e9", "9223372036854775807", ".5MiB", "5.MiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseSize(text)
		if err != nil {
			return
		}
		if n < 0 {
			t.Fatalf("ParseSize(%q) = %d", text, n)
		}
		if again, err := ParseSize(FormatSize(n)); err != nil || again != n {
			t.Fatalf("%q is %d, printed as %q, read as %d, %v", text, n, FormatSize(n), again, err)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"0", "5s", "1m 30s", "-1s", "1h1ns"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("ParseDuration(%q) = %v", text, d)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Fatalf("%q is %v, read again as %v, %v", text, d, again, err)
		}
	})
}
