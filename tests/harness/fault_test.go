package harness

import "testing"

func TestFaultPrintsWhatItParses(t *testing.T) {
	for _, text := range []string{
		"good",
		"cut",
		"reset",
		"stall",
		"down:blackhole",
		"delay(20ms) up:slow(65536)",
		"up:close(4096)",
		"cut delay(1s) up:flip(17) down:stall",
	} {
		f, err := ParseFault(text)
		if err != nil {
			t.Errorf("ParseFault(%q): %v", text, err)
			continue
		}
		if got := f.String(); got != text {
			t.Errorf("ParseFault(%q) prints %q", text, got)
		}
	}
}

func TestFaultRefusesNonsense(t *testing.T) {
	for _, text := range []string{"dely(1s)", "delay", "delay(x)", "delay(-1s)", "slow(0)", "slow(5", "stall(1)", "up:cut", "sideways:stall"} {
		if f, err := ParseFault(text); err == nil {
			t.Errorf("ParseFault(%q) = %s, want an error", text, f)
		}
	}
}

func TestFaultsCompose(t *testing.T) {
	f := MustFault("delay(1ms) up:stall").And(MustFault("down:delay(5ms) cut"))
	if got, want := f.String(), "cut up:delay(1ms) down:delay(5ms) up:stall"; got != want {
		t.Errorf("composed fault is %q, want %q", got, want)
	}
}

func FuzzParseFault(f *testing.F) {
	f.Add("delay(20ms) up:slow(65536) down:blackhole cut reset")
	f.Fuzz(func(t *testing.T, text string) {
		fault, err := ParseFault(text)
		if err != nil {
			return
		}
		again, err := ParseFault(fault.String())
		if err != nil || again != fault {
			t.Errorf("%q parses to %s, which parses to %s, %v", text, fault, again, err)
		}
	})
}
