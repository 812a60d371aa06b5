package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{7}, spread{7, 7, 7}},
		{[]float64{3, 1}, spread{2, 1, 3}},
		{[]float64{5, 1, 3}, spread{3, 1, 5}},
		{[]float64{4, 1, 100, 2}, spread{3, 1, 100}},
	} {
		if got := spreadOf(tc.values); got != tc.want {
			t.Errorf("spreadOf(%v) = %v, want %v", tc.values, got, tc.want)
		}
	}
	if got := (spread{Median: 10, Min: 9, Max: 12}).relative(); got != 0.3 {
		t.Errorf("relative width %v, want 0.3", got)
	}
}

// A machine that is twice as slow for one repeat of both does not widen the
// ratio.
func TestRatio(t *testing.T) {
	if got, want := ratioOf([]float64{10, 20, 20}, []float64{5, 10, 10}), (spread{2, 2, 2}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := ratioOf([]float64{10, 20, 30}, []float64{10, 10, 10}), (spread{2, 1, 3}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got := ratioOf([]float64{1}, nil); got != (spread{}) {
		t.Errorf("against nothing: %v", got)
	}
}

// Every latency lies in its bucket, and a bucket is no wider than 1/16 of it.
func TestBuckets(t *testing.T) {
	before := -1
	for _, ns := range []uint64{0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 1000, 1023, 1024, 123456789, 1 << 40, math.MaxInt64} {
		b := bucketOf(ns)
		if b < before || b >= buckets {
			t.Fatalf("bucket of %d is %d, before it %d, of %d", ns, b, before, buckets)
		}
		before = b
		if top := bucketTop(b); top < ns || float64(top) > float64(ns)*(1+1.0/sub)+1 {
			t.Errorf("bucket of %d ends at %d", ns, top)
		}
		if b > 0 && bucketTop(b-1) >= ns {
			t.Errorf("the bucket before that of %d ends at %d", ns, bucketTop(b-1))
		}
	}
}

func TestPercentiles(t *testing.T) {
	const seed = 4
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	var parts [3]latencies
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(math.Exp(r.Float64()*16)) * time.Nanosecond
		all = append(all, d)
		parts[r.IntN(len(parts))].add(d)
	}
	var l latencies
	for i := range parts {
		l.merge(&parts[i])
	}
	// It travels as JSON between processes.
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	var back latencies
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(l, back) {
		t.Fatalf("through JSON: %v", err)
	}
	slices.Sort(all)
	for _, p := range []float64{.5, .9, .99, .999, 1} {
		exact := all[int(math.Ceil(p*float64(len(all))))-1]
		if got := back.percentile(p); got < exact || float64(got) > float64(exact)*(1+1.0/sub)+1 {
			t.Errorf("percentile %v is %v, exactly %v", p, got, exact)
		}
	}
	if got := new(latencies).percentile(.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.154: "0.15", 9.996: "10.0", 12.34: "12.3", 99.96: "100", 999: "999", 1000: "1.00k", 123456: "123k", 999600: "1.00M", 2.5e9: "2.50G"} {
		if got := quantity(v); got != want {
			t.Errorf("quantity(%v) = %q, want %q", v, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "-", 999: "999ns", 2560: "2.56us", 31 * time.Millisecond: "31.0ms", 2 * time.Second: "2.00s"} {
		if got := period(d); got != want {
			t.Errorf("period(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestParseCPU(t *testing.T) {
	const stat = "42 (a (strange) name) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 1234 1000 200 18446744073709551615"
	if got := parseCPU(stat); got != 2 {
		t.Errorf("%v seconds, want 2", got)
	}
	if got := parseCPU("42 (short) S"); got != 0 {
		t.Errorf("of a short text: %v", got)
	}
}
