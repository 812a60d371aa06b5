package main

import "testing"

// TestRules runs what -quick runs of the resync, and one mutant of each family
// of the volume: whoever changes a rule finds out here. `go run ./mirror/model`
// searches all of it.
func TestRules(t *testing.T) {
	for r := range numStreamRules {
		if found := Search[Stream](stream(2, 2, r), all, 20_000_000); found.Broken == 0 {
			t.Errorf("nothing breaks without: %s", streamText[r])
		}
	}
	if found := Search[Stream](stream(2, 2, -1), all, 20_000_000); found.Broken != 0 || !found.Full {
		t.Errorf("one resync: invariant %d broken, all seen %v: %v", found.Broken, found.Full, found.Trace)
	}
	for _, m := range mutants {
		switch m.rule {
		case ExpelFirst, HelloExpels, MemberFirst, SyncBeforeJoin, NewLine, EpochPersist, EpochOwner, RefuseLower, RecordHeld, AskOthers:
			if found := Search[State](volume(m.bounds, m.rule), m.mask, 20_000_000); found.Broken == 0 {
				t.Errorf("nothing breaks without: %s", ruleText[m.rule])
			}
		}
	}
}
