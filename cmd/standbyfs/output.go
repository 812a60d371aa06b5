package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// form is how a verb prints what it found. It is a flag's value.
type form string

const (
	formText form = "text"
	formJSON form = "json"
	formYAML form = "yaml"
)

func (f *form) String() string { return string(*f) }
func (f *form) Type() string   { return "text|json|yaml" }

func (f *form) Set(text string) error {
	switch form(text) {
	case formText, formJSON, formYAML:
		*f = form(text)
		return nil
	}
	return errors.New("want text, json or yaml")
}

func addFormFlag(cmd *cobra.Command, f *form) {
	*f = formText
	cmd.Flags().VarP(f, "output", "o", "how to print it")
}

// print prints v, as text by means of draw.
func (f form) print(w io.Writer, v any, draw func(io.Writer) error) error {
	switch f {
	case formJSON:
		return writeJSON(w, v)
	case formYAML:
		return writeYAML(w, v)
	}
	return draw(w)
}

func writeJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n", text)
	}
	if err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	return nil
}

// writeYAML prints what writeJSON would, with the same names in the same order:
// JSON is YAML in another style.
func writeYAML(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print as YAML: %w", err)
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return fmt.Errorf("print as YAML: %w", err)
	}
	block(&node)
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(&node); err != nil {
		return fmt.Errorf("print as YAML: %w", err)
	}
	return encoder.Close()
}

// block takes braces and needless quotes away.
func block(node *yaml.Node) {
	node.Style = 0
	for _, child := range node.Content {
		block(child)
	}
}

// sayLine prints one line of an answer.
func sayLine(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format+"\n", args...); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// drawTable prints a heading and rows; tabs stand between their cells.
func drawTable(w io.Writer, heading string, rows func(io.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, heading)
	rows(t)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}
