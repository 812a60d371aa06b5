package config

import (
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// complaint is what is wrong with a value or a part of it.
type complaint struct {
	at   string // below the key: "", "[2]", "[2].mode"
	text string
}

func complain(format string, args ...any) []complaint {
	return []complaint{{text: fmt.Sprintf(format, args...)}}
}

// scalar makes a parser of one that takes text.
func scalar(want string, parse func(s *Settings, text string) error) func(*Settings, any) []complaint {
	return func(s *Settings, v any) []complaint {
		text, ok := v.(string)
		if !ok || text == "" {
			return complain("want %s", want)
		}
		if err := parse(s, text); err != nil {
			return complain("%v", err)
		}
		return nil
	}
}

func text(field func(*Settings) *string) func(*Settings, any) []complaint {
	return scalar("text", func(s *Settings, text string) error {
		*field(s) = text
		return nil
	})
}

func choice(field func(*Settings) *string, values ...string) func(*Settings, any) []complaint {
	return scalar(either(values), func(s *Settings, text string) error {
		*field(s) = text
		return oneOf(text, values)
	})
}

// oneOf returns an error that names the valid values, and the one that was
// probably meant.
func oneOf(text string, values []string) error {
	if slices.Contains(values, text) {
		return nil
	}
	return fmt.Errorf("%q: want %s%s", text, either(values), meant(text, values))
}

func either(values []string) string {
	last := len(values) - 1
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

func boolean(field func(*Settings) *bool) func(*Settings, any) []complaint {
	return scalar("true or false", func(s *Settings, text string) error {
		*field(s) = text == "true"
		return oneOf(text, []string{"true", "false"})
	})
}

func count(field func(*Settings) *int) func(*Settings, any) []complaint {
	return scalar("a number from 0 up", func(s *Settings, text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return fmt.Errorf("%q: want a number from 0 up", text)
		}
		*field(s) = n
		return nil
	})
}

// duration takes what is above zero: all that are configured bound a wait.
func duration(field func(*Settings) *time.Duration) func(*Settings, any) []complaint {
	return scalar("a duration, such as 5s", func(s *Settings, text string) (err error) {
		if *field(s), err = ParseDuration(text); err == nil && *field(s) == 0 {
			err = fmt.Errorf("%q: must be above zero", text)
		}
		return err
	})
}

// interval takes a duration, or 0 for never.
func interval(field func(*Settings) *time.Duration) func(*Settings, any) []complaint {
	return scalar("a duration, such as 7d, or 0 for never", func(s *Settings, text string) (err error) {
		*field(s), err = ParseDuration(text)
		return err
	})
}

// leastRate is what a limit may be. Below it a single file would take minutes.
const leastRate = 64 << 10

// speed takes bytes a second, or 0 for no limit.
func speed(field func(*Settings) *int64) func(*Settings, any) []complaint {
	return scalar("a size a second, such as 50MiB/s, or 0 for no limit", func(s *Settings, text string) (err error) {
		if *field(s), err = ParseRate(text); err == nil && *field(s) != 0 && *field(s) < leastRate {
			err = fmt.Errorf("%q: must be at least %s/s, or 0 for no limit", text, FormatSize(leastRate))
		}
		return err
	})
}

func size(field func(*Settings) *int64, atLeast int64) func(*Settings, any) []complaint {
	return scalar("a size, such as 64MiB", func(s *Settings, text string) (err error) {
		if *field(s), err = ParseSize(text); err == nil && *field(s) < atLeast {
			err = fmt.Errorf("%q: must be at least %s", text, FormatSize(atLeast))
		}
		return err
	})
}

// address takes HOST:PORT; only a listener may leave the host or the port open.
func address(field func(*Settings) *string, listener bool) func(*Settings, any) []complaint {
	return scalar("HOST:PORT", func(s *Settings, text string) error {
		*field(s) = text
		return checkAddress(text, listener)
	})
}

func checkAddress(text string, listener bool) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%q: want HOST:PORT, such as 192.0.2.7:7420 or [2001:db8::7]:7420", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil:
		return fmt.Errorf("%q: port %q is not a number up to 65535", text, port)
	case !listener && host == "":
		return fmt.Errorf("%q: the host is missing", text)
	case !listener && n == 0:
		return fmt.Errorf("%q: port 0 cannot be connected to", text)
	}
	return nil
}

// list makes a parser of one that takes an item. A variable has the items
// separated by white space.
func list(want string, item func(s *Settings, v any) []complaint) func(*Settings, any) []complaint {
	return func(s *Settings, v any) []complaint {
		var items []any
		switch v := v.(type) {
		case []any:
			items = v
		case []string:
			for _, text := range v {
				items = append(items, text)
			}
		case string:
			for _, text := range strings.Fields(v) {
				items = append(items, text)
			}
		default:
			return complain("want a list of %s", want)
		}
		var found []complaint
		for i, v := range items {
			for _, c := range item(s, v) {
				found = append(found, complaint{fmt.Sprintf("[%d]%s", i, c.at), c.text})
			}
		}
		return found
	}
}

var modes = []string{"sync", "async"}

func mirrors(s *Settings, v any) []complaint {
	s.Mirrors = nil
	return list("{address: HOST:PORT, mode: sync|async}", mirrorItem)(s, v)
}

func mirrorItem(s *Settings, v any) []complaint {
	m := Mirror{Mode: "sync"}
	var found []complaint
	switch v := v.(type) {
	case string:
		address, mode, more := strings.Cut(v, ",")
		m.Address = address
		if more {
			m.Mode = mode
		}
	case map[string]any:
		found = fields(v, map[string]*string{"address": &m.Address, "mode": &m.Mode})
	default:
		return complain("want {address: HOST:PORT, mode: sync|async}")
	}
	if m.Address == "" {
		found = append(found, complain("address is missing: want {address: HOST:PORT, mode: sync|async}")...)
	} else if err := checkAddress(m.Address, false); err != nil {
		found = append(found, complaint{".address", err.Error()})
	}
	if err := oneOf(m.Mode, modes); err != nil {
		found = append(found, complaint{".mode", err.Error()})
	}
	s.Mirrors = append(s.Mirrors, m)
	return found
}

var levels = []string{"op", "barrier", "local"}

func rules(s *Settings, v any) []complaint {
	s.Rules = nil
	return list("{match: GLOB, sync: op|barrier|local}", ruleItem)(s, v)
}

func ruleItem(s *Settings, v any) []complaint {
	var r Rule
	var found []complaint
	switch v := v.(type) {
	case string:
		i := strings.LastIndexByte(v, '=')
		if i < 0 {
			return complain("%q: want GLOB=LEVEL, such as *.tmp=local", v)
		}
		r = Rule{Match: v[:i], Sync: v[i+1:]}
	case map[string]any:
		found = fields(v, map[string]*string{"match": &r.Match, "sync": &r.Sync})
	default:
		return complain("want {match: GLOB, sync: op|barrier|local}")
	}
	if err := checkGlob(r.Match); err != nil {
		found = append(found, complaint{".match", err.Error()})
	}
	if err := oneOf(r.Sync, levels); err != nil {
		found = append(found, complaint{".sync", err.Error()})
	}
	s.Rules = append(s.Rules, r)
	return found
}

// checkGlob refuses what gitignore(5) would not understand, and negation,
// which is not needed: the last rule that matches counts.
func checkGlob(glob string) error {
	if glob == "" || strings.HasPrefix(glob, "!") {
		return fmt.Errorf("match %q: want a gitignore pattern without negation, such as *.tmp", glob)
	}
	if _, err := path.Match(glob, ""); err != nil {
		return fmt.Errorf("match %q is not a gitignore pattern: %w", glob, err)
	}
	return nil
}

// fields stores the entries of one item of a list.
func fields(item map[string]any, to map[string]*string) []complaint {
	var found []complaint
	names := slices.Sorted(maps.Keys(to))
	for _, name := range slices.Sorted(maps.Keys(item)) {
		field, known := to[name]
		text, isText := item[name].(string)
		switch {
		case !known:
			found = append(found, complaint{"." + name, fmt.Sprintf("%q is not a key here: want %s%s", name, either(names), meant(name, names))})
		case !isText:
			found = append(found, complaint{"." + name, "want one value"})
		default:
			*field = text
		}
	}
	return found
}
