package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// document is a configuration file: its values as text, lists and maps, and
// the line each of them stands on.
type document struct {
	path   string
	keys   []Key
	values map[string]any // nested, as viper merges it
	lines  map[string]int // by full name, such as "mirrors[2].mode"
	found  []Problem
}

// readDocument reads a file. What is wrong with its form, and keys that do not
// exist, are in found; the error is that of a file that cannot be read.
func readDocument(path string, keys []Key) (*document, error) {
	d := &document{path: path, keys: keys, values: map[string]any{}, lines: map[string]int{}}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	var root yaml.Node
	err = decoder.Decode(&root)
	switch {
	case errors.Is(err, io.EOF): // nothing but comments
		return d, nil
	case err != nil:
		d.malformed(err)
		return d, nil
	}
	if top := root.Content[0]; top.Kind == yaml.MappingNode {
		d.values = d.mapping(top, "")
	} else if top.Tag != "!!null" {
		d.complain(top.Line, "", "want keys and values, such as `role: primary`")
	}
	if err := decoder.Decode(&root); !errors.Is(err, io.EOF) {
		d.complain(root.Line, "", "a configuration is one document: remove what follows ---")
	}
	return d, nil
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// malformed notes an error of the YAML reader under the line that it names.
func (d *document) malformed(err error) {
	text, line := err.Error(), 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1]) // digits: the pattern says so
		text = text[len(m[0]):]
	}
	d.complain(line, "", "not YAML: "+strings.TrimPrefix(text, "yaml: "))
}

// mapping reads the keys below prefix, which is "" or the name of a group.
func (d *document) mapping(node *yaml.Node, prefix string) map[string]any {
	values := map[string]any{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		full := prefix + name.Value
		if first, twice := d.lines[full]; twice {
			d.complain(name.Line, full, fmt.Sprintf("is set twice, in line %d already", first))
			continue
		}
		d.lines[full] = name.Line
		key := slices.IndexFunc(d.keys, func(k Key) bool { return k.Name == full })
		switch {
		case key >= 0:
			values[name.Value] = d.rooted(&d.keys[key], d.value(value, full))
		case !slices.Contains(d.groups(), full):
			d.complain(name.Line, full, "there is no such key"+meant(full, append(d.names(), d.groups()...)))
		case value.Tag == "!!null": // all its keys are commented out
		case value.Kind != yaml.MappingNode:
			d.complain(name.Line, full, "want keys and values below it: "+strings.Join(d.members(full), ", "))
		default:
			values[name.Value] = d.mapping(value, full+".")
		}
	}
	return values
}

// value reads what stands behind a key.
func (d *document) value(node *yaml.Node, at string) any {
	switch {
	case node.Kind == yaml.AliasNode:
		d.complain(node.Line, at, "aliases are not supported: write the value out")
	case node.Kind == yaml.MappingNode:
		values := map[string]any{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			name := node.Content[i].Value
			d.lines[at+"."+name] = node.Content[i].Line
			values[name] = d.value(node.Content[i+1], at+"."+name)
		}
		return values
	case node.Kind == yaml.SequenceNode:
		items := []any{}
		for i, item := range node.Content {
			name := fmt.Sprintf("%s[%d]", at, i)
			d.lines[name] = item.Line
			items = append(items, d.value(item, name))
		}
		return items
	case node.Tag != "!!null":
		return node.Value
	}
	return nil
}

// rooted makes a path in a file relative to the file.
func (d *document) rooted(k *Key, v any) any {
	path, ok := v.(string)
	if !ok || path == "" || filepath.IsAbs(path) || k.Kind != "DIR" && k.Kind != "FILE" {
		return v
	}
	return filepath.Join(filepath.Dir(d.path), path)
}

func (d *document) names() []string {
	var names []string
	for _, k := range d.keys {
		names = append(names, k.Name)
	}
	return names
}

// groups are the keys that have keys below them.
func (d *document) groups() []string {
	var groups []string
	for _, k := range d.keys {
		if group, _, nested := strings.Cut(k.Name, "."); nested && !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	return groups
}

func (d *document) members(group string) []string {
	var members []string
	for _, k := range d.keys {
		if member, ok := strings.CutPrefix(k.Name, group+"."); ok {
			members = append(members, member)
		}
	}
	return members
}

func (d *document) complain(line int, key, text string) {
	d.found = append(d.found, Problem{Where: fmt.Sprintf("%s:%d", d.path, line), Key: key, Text: text, line: line})
}

// where names the place of a value, or the nearest one around it.
func (d *document) where(at string) (string, int) {
	for ; at != ""; at = at[:max(0, strings.LastIndexAny(at, ".["))] {
		if line, ok := d.lines[at]; ok {
			return fmt.Sprintf("%s:%d", d.path, line), line
		}
	}
	return d.path, 0
}
