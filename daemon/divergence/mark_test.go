package divergence

import (
	"reflect"
	"slices"
	"testing"
)

func TestSpans(t *testing.T) {
	var s spans
	for _, c := range []struct {
		add  span
		want spans
	}{
		{span{10, 20}, spans{{10, 20}}}, {span{30, 40}, spans{{10, 20}, {30, 40}}}, {span{5, 5}, spans{{10, 20}, {30, 40}}},
		{span{20, 25}, spans{{10, 25}, {30, 40}}}, {span{0, 1}, spans{{0, 1}, {10, 25}, {30, 40}}}, {span{24, 31}, spans{{0, 1}, {10, 40}}},
		{span{12, 13}, spans{{0, 1}, {10, 40}}}, {span{1, 10}, spans{{0, 40}}},
	} {
		if s.add(c.add); !reflect.DeepEqual(s, c.want) {
			t.Errorf("after %v: %v, want %v", c.add, s, c.want)
		}
	}
	s = spans{{10, 20}, {30, 40}}
	for _, c := range []struct {
		x    span
		want []span
	}{
		{span{0, 50}, []span{{0, 10}, {20, 30}, {40, 50}}}, {span{12, 18}, nil}, {span{15, 35}, []span{{20, 30}}}, {span{20, 30}, []span{{20, 30}}}, {span{3, 3}, nil},
	} {
		if got := s.without(c.x); !slices.Equal(got, c.want) {
			t.Errorf("%v without: %v, want %v", c.x, got, c.want)
		}
	}
}
