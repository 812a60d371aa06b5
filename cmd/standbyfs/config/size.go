package config

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// units are what a size may end in. The first that divides a number without a
// rest is how FormatSize prints it.
var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

const wantSize = "want a size, such as 64KiB, 256MiB or 1.5GiB"

// ParseSize reads a number of bytes as people write it: a number, possibly
// with a fraction, and a unit in any case. A plain number counts bytes.
func ParseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := text[len(number):]
	number = strings.TrimSpace(number)
	if strings.Trim(number, "0123456789.") != "" || len(number) > 30 {
		return 0, fmt.Errorf("%q: %s", text, wantSize)
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q: %s", text, wantSize)
	}
	bytes, ok := unitBytes(unit)
	if !ok {
		return 0, fmt.Errorf("%q: unit %q is not known: %s", text, unit, wantSize)
	}
	value.Mul(value, new(big.Rat).SetInt64(bytes))
	if !value.IsInt() || !value.Num().IsInt64() {
		return 0, fmt.Errorf("%q is not a whole number of bytes below 8388608TiB: %s", text, wantSize)
	}
	return value.Num().Int64(), nil
}

func unitBytes(unit string) (int64, bool) {
	if unit == "" {
		return 1, true
	}
	for _, u := range units {
		if strings.EqualFold(u.name, unit) {
			return u.bytes, true
		}
	}
	return 0, false
}

// FormatSize prints a size so that ParseSize gives the same again.
func FormatSize(n int64) string {
	for _, u := range units {
		if n != 0 && n%u.bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.name)
		}
	}
	return "0B"
}

const wantDuration = "want a duration, such as 500ms, 5s or 1m30s"

// ParseDuration reads a duration as people write it, which may begin with days
// of 24 hours: 7d, 1d12h. There is no plain number: nobody could tell seconds
// from milliseconds.
func ParseDuration(text string) (time.Duration, error) {
	days, rest, ok := strings.Cut(strings.ReplaceAll(text, " ", ""), "d")
	var whole time.Duration
	switch {
	case !ok:
		rest = days
	default:
		n, err := strconv.ParseUint(days, 10, 16) // 179 years
		if err != nil {
			return 0, fmt.Errorf("%q: %s", text, wantDuration)
		}
		whole = time.Duration(n) * 24 * time.Hour
		if rest == "" {
			return whole, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d+whole < 0 {
		return 0, fmt.Errorf("%q: %s", text, wantDuration)
	}
	return d + whole, nil
}

// ParseRate reads a number of bytes a second: a size, with or without "/s".
func ParseRate(text string) (int64, error) {
	n, err := ParseSize(strings.TrimSpace(strings.TrimSuffix(text, "/s")))
	if err != nil {
		return 0, fmt.Errorf("%q: want a size a second, such as 50MiB/s, or 0 for no limit", text)
	}
	return n, nil
}
