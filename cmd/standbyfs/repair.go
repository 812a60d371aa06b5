package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
)

// repairMode is who decides which version is right. It is a flag's value.
type repairMode string

const (
	repairNone     repairMode = ""
	repairAsk      repairMode = "ask"
	repairMajority repairMode = "majority"
)

func (m *repairMode) String() string { return string(*m) }
func (m *repairMode) Type() string   { return "ask|majority" }

func (m *repairMode) Set(text string) error {
	if *m = repairMode(text); *m != repairAsk && *m != repairMajority {
		return errors.New("want ask or majority")
	}
	return nil
}

// repair has versions chosen for what differs, has all replicas made so, and
// compares once more. If nothing is chosen it returns the report as it was.
func repair(cmd *cobra.Command, client *admin.Client, report mirror.VerifyReport, opts *verifyOptions) (mirror.VerifyReport, error) {
	say := func(format string, args ...any) error { return nil }
	if opts.form == formText {
		say = func(format string, args ...any) error { return sayLine(cmd.OutOrStdout(), format, args...) }
	}
	decide := byName(opts.use)
	switch opts.repair {
	case repairAsk:
		decide = byAsking(cmd.InOrStdin(), cmd.OutOrStdout())
	case repairMajority:
		decide = byMajority
	}
	var choices []mirror.Choice
	for _, item := range report.Items {
		if err := say("%s", drawItem(&item, report.Replicas)); err != nil {
			return report, err
		}
		chosen, why, err := decide(&item, report.Replicas)
		if err != nil {
			return report, err
		}
		if chosen == nil {
			if err := say("  left as it is: %s", why); err != nil {
				return report, err
			}
			continue
		}
		if err := say("  right is what %s has", strings.Join(chosen.Nodes, ", ")); err != nil {
			return report, err
		}
		choices = append(choices, mirror.Choice{Path: item.Path, With: item.With, Aspect: item.Aspect, Regions: item.Regions, Version: chosen.ID})
	}
	if len(choices) == 0 {
		return report, nil
	}
	results, err := client.Repair(cmd.Context(), choices)
	if err != nil {
		return report, err
	}
	for _, r := range results {
		if r.Error == "" {
			continue
		}
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "standbyfs: %q could not be made equal: %s\n", r.Path, r.Error); err != nil {
			return report, err
		}
	}
	return compare(cmd, client, client.Verify)
}

// decider chooses the right version of an item. Without one it says why.
type decider func(item *mirror.Item, replicas int) (*mirror.Version, string, error)

func byMajority(item *mirror.Item, replicas int) (*mirror.Version, string, error) {
	if v := majority(item, replicas); v != nil {
		return v, "", nil
	}
	return nil, fmt.Sprintf("of %d replicas no more than half agree; decide with --repair or --use NAME", replicas), nil
}

// majority is the version that more than half of all replicas have, those that
// could not be asked included, or nil.
func majority(item *mirror.Item, replicas int) *mirror.Version {
	for i := range item.Versions {
		if v := &item.Versions[i]; 2*len(v.Nodes) > replicas {
			return v
		}
	}
	return nil
}

func byName(name string) decider {
	return func(item *mirror.Item, _ int) (*mirror.Version, string, error) {
		var found *mirror.Version
		for i := range item.Versions {
			v := &item.Versions[i]
			if !slices.Contains(v.Nodes, name) {
				continue
			}
			if found != nil {
				return nil, fmt.Sprintf("nodes with the name %q do not agree: give each a name of its own, or decide with --repair", name), nil
			}
			found = v
		}
		if found == nil {
			return nil, fmt.Sprintf("what %q has is not known", name), nil
		}
		return found, "", nil
	}
}

// byAsking asks a person. At the end of the input everything that is left stays
// as it is.
func byAsking(in io.Reader, out io.Writer) decider {
	lines := bufio.NewScanner(in)
	stopped := false
	return func(item *mirror.Item, replicas int) (*mirror.Version, string, error) {
		most := majority(item, replicas)
		for !stopped {
			question := fmt.Sprintf("  which one is right? 1-%d, or s to skip it, q to skip all that follow", len(item.Versions))
			if most != nil {
				question += "; Enter takes the majority's"
			}
			if _, err := fmt.Fprintf(out, "%s: ", question); err != nil {
				return nil, "", fmt.Errorf("ask: %w", err)
			}
			if !lines.Scan() {
				stopped = true
				if err := sayLine(out, ""); err != nil {
					return nil, "", err
				}
				break
			}
			answer := strings.TrimSpace(lines.Text())
			n, err := strconv.Atoi(answer)
			switch {
			case err == nil && n >= 1 && n <= len(item.Versions):
				return &item.Versions[n-1], "", nil
			case answer == "" && most != nil:
				return most, "", nil
			case answer == "s":
				return nil, "skipped", nil
			case answer == "q":
				stopped = true
			}
		}
		return nil, "skipped", lines.Err()
	}
}

// drawItem prints a difference with its versions, each on a line.
func drawItem(item *mirror.Item, replicas int) string {
	what := ": what is there"
	switch item.Aspect {
	case mirror.AspectAttributes:
		what = ": attributes"
	case mirror.AspectContent:
		last := item.Regions[len(item.Regions)-1] + op.RegionSize - 1
		what = fmt.Sprintf(": content of bytes %d-%d", item.Regions[0], last)
	case mirror.AspectLink:
		what = fmt.Sprintf(" and %q: whether they are one file", item.With[0])
	}
	text := fmt.Sprintf("%q%s", item.Path, what)
	most := majority(item, replicas)
	for i := range item.Versions {
		v, mark := &item.Versions[i], ""
		if v == most {
			mark = " (the majority)"
		}
		text += fmt.Sprintf("\n  %d  %s%s: %s", i+1, strings.Join(v.Nodes, ", "), mark, v.Text)
	}
	return text
}
