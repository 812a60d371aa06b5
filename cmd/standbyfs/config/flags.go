package config

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags adds a flag for every key but those named in without, which the
// command takes in another way.
func AddFlags(to *pflag.FlagSet, without ...string) {
	for _, k := range Keys() {
		if slices.Contains(without, k.Name) {
			continue
		}
		usage := k.Doc
		if k.Default != "" && !k.Switch {
			usage += " (default " + k.Default + ")"
		}
		kind := k.Kind
		if k.Switch {
			kind = "bool" // pflag then shows no value
		}
		f := to.VarPF(&value{kind: kind, list: k.List}, k.FlagName(), "", usage)
		if k.Switch {
			f.NoOptDefVal = "true"
		}
	}
}

// value is a flag's value as text: the key's own parser reads it, so that a
// flag, a variable and a line of the file are checked alike.
type value struct {
	kind  string
	list  bool
	texts []string
}

func (v *value) Type() string   { return v.kind }
func (v *value) String() string { return strings.Join(v.texts, " ") }

func (v *value) Set(text string) error {
	if !v.list {
		v.texts = nil
	}
	v.texts = append(v.texts, text)
	return nil
}

func (v *value) get() any {
	if v.list {
		return v.texts
	}
	return v.texts[0]
}
