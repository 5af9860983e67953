// Package settings takes defaults, checks and help of environment variables from struct tags, for
// the server and the agency. A configuration is a struct, and the tags of a field describe its
// variable completely:
//
//	env         its name
//	envDefault  its value if it isn't set
//	help        what it means
//	min, max    the smallest and the largest legal number or duration
//	oneof       the legal words, with spaces between them
//	legal       the legal values in words, where min and max or oneof don't say it
//
// A test of cmd/loteria compares VARIABLES.md, the compose files and their generator with the tags;
// with -update it writes the lines of a new variable.
//
// Any goroutine may call the functions. They panic if the value of a tag does not fit its field.
package settings

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// ErrIllegal says that a setting is not legal. The message names the variable, its value and the
// legal values.
var ErrIllegal = errors.New("configuration")

// Illegal makes an ErrIllegal for one variable; legal says in words what the variable takes.
func Illegal(name string, value any, legal string) error {
	return fmt.Errorf("%w: %s=%v is not legal: want %s", ErrIllegal, name, value, legal)
}

// Default is a configuration with every variable at its default. It doesn't read the process's
// environment.
func Default[C any]() C { return tagged[C]("envDefault") }

// tagged is a configuration whose fields have the values of one of their tags.
func tagged[C any](tag string) C {
	return env.Must(env.ParseAsWithOptions[C](env.Options{
		Environment:         map[string]string{}, // nil would mean the process's environment
		DefaultValueTagName: tag,
	}))
}

// Check checks a configuration against its tags min, max and oneof. The error wraps ErrIllegal and
// names the first wrong variable.
func Check[C any](c C) error {
	values := reflect.ValueOf(c)
	least, most := reflect.ValueOf(tagged[C]("min")), reflect.ValueOf(tagged[C]("max"))
	for i := range values.NumField() {
		field, value := values.Type().Field(i), values.Field(i)
		words, isWord := field.Tag.Lookup("oneof")
		_, hasLeast := field.Tag.Lookup("min")
		_, hasMost := field.Tag.Lookup("max")
		if isWord && !slices.Contains(strings.Fields(words), value.String()) ||
			hasLeast && integer(value) < integer(least.Field(i)) ||
			hasMost && integer(value) > integer(most.Field(i)) {
			legal := Legal(field)
			if hasMost {
				legal = fmt.Sprintf("%v to %v", least.Field(i), most.Field(i))
			}
			return Illegal(field.Tag.Get("env"), value, legal)
		}
	}
	return nil
}

func integer(v reflect.Value) int64 { return v.Convert(reflect.TypeFor[int64]()).Int() }

// Legal says in words which values a field of a configuration takes.
func Legal(field reflect.StructField) string {
	tag := field.Tag
	switch {
	case tag.Get("legal") != "":
		return tag.Get("legal")
	case tag.Get("oneof") != "":
		return strings.ReplaceAll(tag.Get("oneof"), " ", " or ")
	case field.Type == reflect.TypeFor[time.Duration]():
		return "a duration, " + tag.Get("min") + " to " + tag.Get("max")
	}
	return tag.Get("min") + " to " + tag.Get("max")
}
