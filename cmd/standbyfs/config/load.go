package config

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Sources are where settings come from. Of several that set a key the later
// one counts: defaults, the file, variables, flags, arguments.
type Sources struct {
	File      string            // "": none
	Flags     *pflag.FlagSet    // as AddFlags made them; nil: none
	Arguments map[string]string // by key, as a command's form fixes them
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Where string // FILE:LINE, a flag or a variable
	Key   string // in a file: which key
	Text  string

	line int // in the file; orders the problems
}

// Problems is the error of a configuration that was refused.
type Problems []Problem

// Error lists all problems, one a line.
func (p Problems) Error() string {
	var lines []string
	for _, problem := range p {
		line := problem.Where + ": "
		if problem.Key != "" {
			line += problem.Key + ": "
		}
		lines = append(lines, line+problem.Text)
	}
	return strings.Join(lines, "\n")
}

// Load merges the sources and checks the whole. Every value is checked, also
// one that another source overrides. The error is Problems if any were found.
func Load(from Sources) (*Settings, error) {
	l := newLoader(from)
	if from.File != "" {
		var err error
		if l.file, err = readDocument(from.File, l.keys); err != nil {
			return nil, err
		}
		l.found = l.file.found
		if err := l.merged.MergeConfigMap(l.file.values); err != nil {
			return nil, fmt.Errorf("merge %s: %w", from.File, err)
		}
	}
	l.found = append(l.found, strangers(l.keys)...)
	for i := range l.keys {
		if err := l.merge(&l.keys[i]); err != nil {
			return nil, err
		}
	}
	s := l.settings()
	if len(l.found) == 0 {
		l.check(s)
	}
	if len(l.found) > 0 {
		slices.SortStableFunc(l.found, func(a, b Problem) int { return a.line - b.line })
		return nil, Problems(l.found)
	}
	return s, nil
}

type loader struct {
	Sources
	keys   []Key
	merged *viper.Viper
	file   *document
	found  []Problem
}

func newLoader(from Sources) *loader {
	return &loader{Sources: from, keys: Keys(), merged: viper.New(), file: &document{}}
}

// merge adds to l.merged what sets k, and checks each value on its own.
func (l *loader) merge(k *Key) error {
	if v, ok := l.inFile(k.Name); ok {
		l.try(k, v, "")
	}
	if k.Default != "" {
		l.merged.SetDefault(k.Name, k.Default)
	}
	if err := l.merged.BindEnv(k.Name, k.Env()); err != nil {
		return fmt.Errorf("bind %s: %w", k.Env(), err)
	}
	if text := os.Getenv(k.Env()); text != "" {
		l.try(k, text, k.Env())
	}
	if f := l.flag(k); f != nil {
		v := f.Value.(*value).get()
		l.merged.Set(k.Name, v)
		l.try(k, v, "--"+k.FlagName())
	}
	if text, ok := l.Arguments[k.Name]; ok {
		l.merged.Set(k.Name, text)
		l.try(k, text, "argument "+strings.ToUpper(k.Name))
	}
	return nil
}

// inFile finds a key's value in the file, which may be nil if none was given.
func (l *loader) inFile(name string) (any, bool) {
	values := l.file.values
	group, member, nested := strings.Cut(name, ".")
	if nested {
		values, _ = values[group].(map[string]any)
		name = member
	}
	v, ok := values[name]
	return v, ok
}

// flag returns the key's flag if the user gave it.
func (l *loader) flag(k *Key) *pflag.Flag {
	if l.Flags == nil {
		return nil
	}
	if f := l.Flags.Lookup(k.FlagName()); f != nil && f.Changed {
		return f
	}
	return nil
}

// try checks one source's value; where is "" for the file.
func (l *loader) try(k *Key, v any, where string) {
	for _, c := range k.parse(&Settings{}, v) {
		if where == "" {
			place, line := l.file.where(k.Name + c.at)
			l.found = append(l.found, Problem{Where: place, Key: k.Name + c.at, Text: c.text, line: line})
			continue
		}
		l.found = append(l.found, Problem{Where: where, Text: c.text, line: afterFile})
	}
}

// afterFile sorts a problem behind those of the file.
const afterFile = 1 << 30

// settings parses what won.
func (l *loader) settings() *Settings {
	s := &Settings{}
	for i := range l.keys {
		k := &l.keys[i]
		if v := l.merged.Get(k.Name); v != nil {
			k.parse(s, v) // complaints are known: each source was tried
		}
	}
	return s
}

// where names the place that decided about a key, for what is wrong with the
// settings as a whole.
func (l *loader) where(key string) Problem {
	i := slices.IndexFunc(l.keys, func(k Key) bool { return key == k.Name || strings.HasPrefix(key, k.Name+"[") })
	k := &l.keys[i]
	_, argument := l.Arguments[k.Name]
	_, inFile := l.inFile(k.Name)
	switch {
	case argument:
		return Problem{Where: "argument " + strings.ToUpper(k.Name), line: afterFile}
	case l.flag(k) != nil:
		return Problem{Where: "--" + k.FlagName(), line: afterFile}
	case os.Getenv(k.Env()) != "":
		return Problem{Where: k.Env(), line: afterFile}
	case l.File != "" && inFile:
		place, line := l.file.where(key)
		return Problem{Where: place, Key: key, line: line}
	case l.File != "":
		return Problem{Where: l.File, Key: key}
	}
	return Problem{Where: "--" + k.FlagName(), line: afterFile}
}

// strangers finds variables that were probably meant to set a key. Others with
// our prefix may come from anywhere (a service of that name in a cluster).
func strangers(keys []Key) []Problem {
	known := map[string]bool{}
	for _, k := range keys {
		known[k.Env()] = true
	}
	var found []Problem
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		word, ours := strings.CutPrefix(name, envPrefix)
		if !ours || known[name] {
			continue
		}
		for _, k := range keys {
			if plain(word) == plain(k.FlagName()) || distance(word, strings.TrimPrefix(k.Env(), envPrefix)) <= 1+len(word)/8 {
				found = append(found, Problem{Where: name, Text: fmt.Sprintf("there is no such setting: did you mean %s?", k.Env()), line: afterFile})
				break
			}
		}
	}
	return found
}
