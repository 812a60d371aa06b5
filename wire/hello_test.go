package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// empty returns a new value of the type that a kind's message has.
func empty(k Kind) any { return reflect.New(reflect.TypeOf(sampleMessages()[k]).Elem()).Interface() }

func TestMessagesTravel(t *testing.T) {
	for k, want := range sampleMessages() {
		b, err := AppendMessage(nil, k, want)
		if err != nil {
			t.Fatal(err)
		}
		frames, err := readAll(b)
		if err != nil || len(frames) != 1 || frames[0].header.Kind != k {
			t.Fatalf("kind %d: %d frames, error %v", k, len(frames), err)
		}
		got := empty(k)
		if err := DecodeMessage(frames[0].payload, got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("kind %d: sent %+v\ngot %+v (%v)", k, want, got, err)
		}
		for n := range len(frames[0].payload) {
			if err := DecodeMessage(frames[0].payload[:n], empty(k)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("kind %d cut to %d bytes: error %v", k, n, err)
			}
		}
	}
}

// A newer peer may say more.
func TestUnknownFieldsPass(t *testing.T) {
	var g Goodbye
	if err := DecodeMessage([]byte(`{"reason":"stops","mood":"fine"}`), &g); err != nil || g.Reason != "stops" {
		t.Errorf("%+v, error %v", g, err)
	}
}

func TestAppendMessageRefuses(t *testing.T) {
	for name, v := range map[string]any{
		"too large": Goodbye{Reason: strings.Repeat("x", MaxPayload)},
		"no JSON":   make(chan int),
	} {
		if b, err := AppendMessage([]byte("before"), KindGoodbye, v); err == nil || string(b) != "before" {
			t.Errorf("%s: error %v, %d bytes", name, err, len(b))
		}
	}
}

func FuzzMessages(f *testing.F) {
	for k, v := range sampleMessages() {
		b, err := AppendMessage(nil, k, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(k), b[HeaderSize:])
	}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		k := Kind(kind)
		if _, ok := sampleMessages()[k]; !ok {
			return
		}
		v := empty(k)
		if DecodeMessage(payload, v) != nil {
			return
		}
		first, err := AppendMessage(nil, k, v)
		if err != nil {
			t.Fatalf("%+v was decoded and cannot be encoded: %v", v, err)
		}
		again := empty(k)
		if err := DecodeMessage(first[HeaderSize:], again); err != nil {
			t.Fatalf("%+v was encoded and cannot be decoded: %v", v, err)
		}
		if second, err := AppendMessage(nil, k, again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%+v came back as %+v (%v)", v, again, err)
		}
	})
}
