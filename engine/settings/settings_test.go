package settings_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"loteria/engine/settings"
)

type example struct {
	Count   int           `env:"TEST_COUNT" envDefault:"3" min:"1" max:"7"`
	Bytes   int64         `env:"TEST_BYTES" envDefault:"8589934592" min:"0" max:"17179869184"`
	Number  uint32        `env:"TEST_NUMBER" envDefault:"1" min:"1" legal:"1 or more"`
	Timeout time.Duration `env:"TEST_TIMEOUT" envDefault:"90s" min:"50ms" max:"24h"`
	Word    string        `env:"TEST_WORD" envDefault:"one" oneof:"one other"`
	Text    string        `env:"TEST_TEXT" legal:"anything"`
	NoTags  string
}

func TestDefault(t *testing.T) {
	t.Setenv("TEST_COUNT", "5") // Default must not read it
	want := example{Count: 3, Bytes: 8 << 30, Number: 1, Timeout: 90 * time.Second, Word: "one"}
	if got := settings.Default[example](); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		set  func(*example)
		want string // the error; empty if the configuration is legal
	}{
		{func(*example) {}, ""},
		{func(c *example) { c.Count = 1 }, ""},
		{func(c *example) { c.Count = 7 }, ""},
		{func(c *example) { c.Count = 0 }, "TEST_COUNT=0 is not legal: want 1 to 7"},
		{func(c *example) { c.Count, c.Word = 8, "" }, "TEST_COUNT=8 is not legal: want 1 to 7"},
		{func(c *example) { c.Bytes = 1 << 34 }, ""},
		{func(c *example) { c.Bytes = -1 }, "TEST_BYTES=-1 is not legal: want 0 to 17179869184"},
		{func(c *example) { c.Number = 1<<32 - 1 }, ""},
		{func(c *example) { c.Number = 0 }, "TEST_NUMBER=0 is not legal: want 1 or more"},
		{func(c *example) { c.Timeout = 24 * time.Hour }, ""},
		{func(c *example) { c.Timeout = 49 * time.Millisecond }, "TEST_TIMEOUT=49ms is not legal: want 50ms to 24h0m0s"},
		{func(c *example) { c.Word = "other" }, ""},
		{func(c *example) { c.Word = "one other" }, "TEST_WORD=one other is not legal: want one or other"},
		{func(c *example) { c.Word = "" }, "TEST_WORD= is not legal: want one or other"},
		{func(c *example) { c.Text, c.NoTags = "x", "x" }, ""},
	} {
		c := settings.Default[example]()
		test.set(&c)
		err := settings.Check(c)
		if test.want == "" && err == nil {
			continue
		}
		if !errors.Is(err, settings.ErrIllegal) || err.Error() != "configuration: "+test.want {
			t.Errorf("%+v: error %v, want %q", c, err, test.want)
		}
	}
}

func TestLegal(t *testing.T) {
	for name, want := range map[string]string{
		"Count": "1 to 7", "Number": "1 or more", "Timeout": "a duration, 50ms to 24h",
		"Word": "one or other", "Text": "anything",
	} {
		field, _ := reflect.TypeFor[example]().FieldByName(name)
		if got := settings.Legal(field); got != want {
			t.Errorf("%s takes %q, want %q", name, got, want)
		}
	}
}

// A tag whose value doesn't fit its field is a mistake in the program, so it panics.
func TestWrongTag(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it doesn't panic")
		}
	}()
	settings.Default[struct {
		Count int `env:"TEST_COUNT" envDefault:"three"`
	}]()
}
