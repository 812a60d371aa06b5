package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
)

// scheduled runs a schedule for some time of a fake clock and returns what it
// did, by days since it began. A verify takes an hour.
func scheduled(t *testing.T, first time.Duration, span time.Duration, verify func(n int) error) []string {
	var done []string
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		note := func(format string, args ...any) {
			done = append(done, fmt.Sprintf("%.2f: ", time.Since(began).Hours()/24)+fmt.Sprintf(format, args...))
		}
		var last time.Time
		if first != 0 {
			last = began.Add(-first)
		}
		n := 0
		s := &schedule{
			every: 7 * 24 * time.Hour,
			last:  func() time.Time { return last },
			ready: func(ctx context.Context) error { return ctx.Err() },
			verify: func(ctx context.Context) error {
				n++
				select {
				case <-time.After(time.Hour):
				case <-ctx.Done():
					note("interrupted")
					return ctx.Err()
				}
				if err := verify(n); err != nil {
					return err
				}
				last = time.Now()
				note("verified")
				return nil
			},
			failed: func(err error, next time.Duration) { note("%v, again in %v", err, next) },
		}
		ctx, stop := context.WithTimeout(t.Context(), span)
		defer stop()
		s.run(ctx)
	})
	return done
}

func TestSchedule(t *testing.T) {
	const day = 24 * time.Hour
	good := func(int) error { return nil }
	for _, c := range []struct {
		name   string
		first  time.Duration // how long ago the last verify was; 0: there was none
		verify func(int) error
		want   []string
	}{
		{"never verified", 0, good, []string{"0.04: verified", "7.08: verified", "14.12: verified"}},
		{"a restart does not begin anew", 5 * day, good, []string{"2.04: verified", "9.08: verified"}},
		{"long overdue", 100 * day, good, []string{"0.04: verified", "7.08: verified", "14.12: verified"}},
		{"a clock that was set back", -100 * day, good, []string{"7.04: verified", "14.08: verified"}},
		{"one that fails", 7 * day, func(n int) error {
			if n == 1 {
				return errors.New("nobody there")
			}
			return nil
		}, []string{"0.04: nobody there, again in 1h0m0s", "0.12: verified", "7.17: verified", "14.21: verified"}},
		{"the end of a reign", 7 * day, func(int) error { return op.ErrFenced }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := scheduled(t, c.first, 15*day, c.verify); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		if got := scheduled(t, 0, time.Minute, good); !slices.Equal(got, []string{"0.00: interrupted"}) {
			t.Errorf("got %q", got)
		}
	})
}
