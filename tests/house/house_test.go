// Package house checks that what is written about the code is true of it: the
// files and rules that comments name, and the lists of files and packages.
package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// source is a Go file, by its path from the root.
type source struct {
	path string
	text []byte
	file *ast.File
}

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// comments are all of the file, each on one line.
func (s *source) comments() []string {
	var all []string
	for _, c := range s.file.Comments {
		all = append(all, strings.Join(strings.Fields(c.Text()), " "))
	}
	return all
}

// walk calls fn for every file of the project but what was built, by its path
// from the root.
func walk(t *testing.T, fn func(path string) error) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == "build" || path != root && strings.HasPrefix(entry.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if path, err = filepath.Rel(root, path); err != nil {
			return err
		}
		return fn(path)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sources parses all Go files.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	walk(t, func(path string) error {
		if filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments)
		all = append(all, &source{path, text, file})
		return err
	})
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fileName finds what looks like a file of ours in a text.
var fileName = regexp.MustCompile(`[\w./-]*\w\.(?:go|py|md|sh|yaml)\b`)

func TestHouse(t *testing.T) {
	all := sources(t)
	t.Run("named files exist", func(t *testing.T) { namedFilesExist(t, all) })
	t.Run("lists of files are whole", func(t *testing.T) { listsOfFilesAreWhole(t, all) })
	t.Run("table of packages is whole", func(t *testing.T) { tableOfPackagesIsWhole(t, all) })
	t.Run("rules are named", func(t *testing.T) { rulesAreNamed(t, all) })
}

// A file that a comment or a page names is there: beside it, below the root, or,
// by its bare name, anywhere.
func namedFilesExist(t *testing.T, all []*source) {
	there, texts := map[string]bool{}, map[string]string{}
	walk(t, func(path string) error {
		there[path], there[filepath.Base(path)] = true, true
		if filepath.Ext(path) == ".md" {
			texts[path] = read(t, path)
		}
		return nil
	})
	for _, s := range all {
		texts[s.path] = strings.Join(s.comments(), "\n")
	}
	count := 0
	for path, text := range texts {
		for _, name := range fileName.FindAllString(text, -1) {
			count++
			if !there[name] && !there[filepath.Join(filepath.Dir(path), name)] {
				t.Errorf("%s names %s, which is not there", path, name)
			}
		}
	}
	if count < 200 {
		t.Errorf("only %d names were found", count)
	}
}

// Where a package's comment lists its files it lists all of them.
func listsOfFilesAreWhole(t *testing.T, all []*source) {
	lists := 0
	for _, head := range all {
		if head.file.Doc == nil || head.isTest() {
			continue
		}
		listed := fileName.FindAllString(head.file.Doc.Text(), -1)
		dir := filepath.Dir(head.path)
		if len(listed) < 3 || dir == "tests/harness" || dir == "tests/model" { // which tell of some
			continue
		}
		lists++
		for _, s := range all {
			name := filepath.Base(s.path)
			if filepath.Dir(s.path) == dir && !s.isTest() && s != head && !slices.Contains(listed, name) {
				t.Errorf("the comment of package %s does not say what %s is", dir, name)
			}
		}
	}
	if lists < 7 {
		t.Errorf("only %d packages list their files", lists)
	}
}

// Every package stands in the table of ARCHITECTURE.md; those of the tests share
// a row.
func tableOfPackagesIsWhole(t *testing.T, all []*source) {
	page := read(t, "ARCHITECTURE.md")
	tests := regexp.MustCompile(`(?m)^\| tests \|.*$`).FindString(page)
	packages := map[string]bool{}
	for _, s := range all {
		packages[filepath.Dir(s.path)] = true
	}
	for dir := range packages {
		if name, ok := strings.CutPrefix(dir, "tests/"); ok {
			name, _, _ = strings.Cut(name, "/")
			if !regexp.MustCompile(`\b` + name + `\b`).MatchString(tests) {
				t.Errorf("the row of tests in ARCHITECTURE.md does not name %s", name)
			}
		} else if !strings.Contains(page, "\n| "+dir+" |") {
			t.Errorf("ARCHITECTURE.md has no row for %s", dir)
		}
	}
}

// Rules that a cluster would have to keep, whose register is not built.
var ofClusters = []string{"AskRegister", "LeaseCheck", "LeaseWait"}

var (
	ruleLine = regexp.MustCompile(`(?m)^(\d+)\. `)
	ruleName = regexp.MustCompile(`\[(\w+)\]`)
	// A citation is the page with numbers and names: RULES.md 5, 6 RecordHeld.
	citation = regexp.MustCompile(`RULES\.md (?:\d+,? ?|[A-Z]\w+,? ?|and )+`)
	cited    = regexp.MustCompile(`\d+|[A-Z][a-z]\w+`)
)

// What the code says of a rule is true: there is one of that name and number. And
// each rule is named where the code keeps it.
func rulesAreNamed(t *testing.T, all []*source) {
	page := read(t, "mirror/model/RULES.md")
	_, page, _ = strings.Cut(page, "\n## Rules\n")
	page, _, _ = strings.Cut(page, "\n## ")
	number := map[string]string{}
	at := ruleLine.FindAllStringSubmatchIndex(page, -1)
	for i, from := range at {
		to := len(page)
		if i+1 < len(at) {
			to = at[i+1][0]
		}
		for _, name := range ruleName.FindAllStringSubmatch(page[from[0]:to], -1) {
			number[name[1]] = page[from[2]:from[3]]
		}
	}
	if len(number) < 30 {
		t.Fatalf("only %d rules were found", len(number))
	}
	named := map[string]bool{}
	for _, s := range all {
		if strings.HasPrefix(s.path, "mirror/model/") || !bytes.Contains(s.text, []byte("RULES.md")) {
			continue
		}
		for _, comment := range s.comments() {
			for _, text := range citation.FindAllString(comment, -1) {
				words := cited.FindAllString(text, -1)
				for _, word := range words {
					n, known := number[word]
					switch {
					case word[0] <= '9':
					case !known:
						t.Errorf("%s names %s, which RULES.md has not", s.path, word)
					case !slices.Contains(words, n):
						t.Errorf("%s has %s in %q: it is in rule %s", s.path, word, text, n)
					}
					named[word] = named[word] || !s.isTest()
				}
			}
		}
	}
	for name, n := range number {
		if !named[name] && !slices.Contains(ofClusters, name) {
			t.Errorf("no code says that it keeps rule %s, %s", n, name)
		}
	}
}
