package main

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"
)

// spread is a middle and how far the repeats went from it.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf is the spread of some values, zero if there are none. The middle of
// an even number of values is the mean of the two in the middle.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

// relative is the width of the spread as a part of its median.
func (s spread) relative() float64 {
	if s.Median == 0 {
		return 0
	}
	return (s.Max - s.Min) / s.Median
}

// noisy is the relative width from which on a median is marked as not to be
// trusted to its last digits.
const noisy = 0.3

// ratioOf is a's median over b's, with the spread of the ratios of the repeats
// that ran one after the other: what slows down the whole machine for a while
// slows down both.
func ratioOf(a, b []float64) spread {
	var pairs []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			pairs = append(pairs, a[i]/b[i])
		}
	}
	r := spreadOf(pairs)
	if over := spreadOf(b).Median; over > 0 {
		r.Median = spreadOf(a).Median / over
	}
	r.Min, r.Max = min(r.Min, r.Median), max(r.Max, r.Median)
	return r
}

// latencies counts how long calls took, in buckets of 1/16 of a power of two
// of nanoseconds, so that a percentile is exact to 6 %.
type latencies struct {
	// Buckets maps a bucket's number to its count. It is what travels as JSON.
	Buckets map[int]int64 `json:"buckets,omitempty"`
	counts  []int64       // while counting
}

const (
	subBits = 4
	sub     = 1 << subBits
	buckets = (64 - subBits) * sub
)

// bucketOf numbers the bucket of a latency in nanoseconds.
func bucketOf(ns uint64) int {
	if ns < sub {
		return int(ns)
	}
	shift := bits.Len64(ns) - 1 - subBits
	return (shift+1)*sub + int(ns>>shift) - sub
}

// bucketTop is the largest latency of a bucket.
func bucketTop(b int) uint64 {
	if b < sub {
		return uint64(b)
	}
	shift := b/sub - 1
	return (uint64(b%sub+sub)+1)<<shift - 1
}

// add counts one call. It is for one goroutine.
func (l *latencies) add(d time.Duration) {
	if l.counts == nil {
		l.counts = make([]int64, buckets)
	}
	l.counts[bucketOf(uint64(max(d, 0)))]++
}

// merge adds what m has counted.
func (l *latencies) merge(m *latencies) {
	if l.Buckets == nil {
		l.Buckets = map[int]int64{}
	}
	for b, n := range m.counts {
		if n > 0 {
			l.Buckets[b] += n
		}
	}
	for b, n := range m.Buckets {
		l.Buckets[b] += n
	}
}

// percentile returns the latency that a part p of the calls did not exceed, of
// what was merged.
func (l *latencies) percentile(p float64) time.Duration {
	var total int64
	for _, n := range l.Buckets {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank := max(int64(math.Ceil(p*float64(total))), 1)
	var order []int
	for b := range l.Buckets {
		order = append(order, b)
	}
	slices.Sort(order)
	for _, b := range order {
		if rank -= l.Buckets[b]; rank <= 0 {
			return time.Duration(bucketTop(b))
		}
	}
	return 0
}

// quantity prints a number with three digits and a unit of thousands.
func quantity(v float64) string {
	unit := ""
	for _, u := range []string{"k", "M", "G"} {
		if math.Abs(v) < 999.5 {
			break
		}
		v, unit = v/1000, u
	}
	return digits(v) + unit
}

func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95 || a == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// period prints a time with three digits.
func period(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Microsecond:
		return fmt.Sprintf("%dns", d)
	case d < time.Millisecond:
		return digits(float64(d)/1e3) + "us"
	case d < time.Second:
		return digits(float64(d)/1e6) + "ms"
	}
	return digits(d.Seconds()) + "s"
}
