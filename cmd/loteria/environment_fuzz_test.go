package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"loteria/codec"
	"loteria/engine"
)

// FuzzEnvironment sets one variable to any value. Either the error names the variable, or the value
// that the line `config` logs means the same when it is set again. A secret is not logged.
func FuzzEnvironment(f *testing.F) {
	configs := []func() (any, error){
		loaded(engine.Config.Validate),
		loaded(agencyConfig.validate),
		loaded(func(c logConfig) error {
			_, closeLog, err := newLogger(c, io.Discard)
			if err != nil {
				return err
			}
			return closeLog()
		}),
	}
	of := func(which uint8) (int, variable) {
		for i, c := range []any{engine.Config{}, agencyConfig{}, logConfig{}} {
			all := variables(c)
			if int(which) < len(all) {
				return i, all[which]
			}
			which -= uint8(len(all))
		}
		return -1, variable{}
	}
	for which := range uint8(len(variables(engine.Config{}, agencyConfig{}, logConfig{}))) {
		_, v := of(which)
		for _, value := range append(illegalValues(v), v.defaultValue) {
			f.Add(which, value)
		}
	}
	clearEnvironment(f)
	f.Setenv("AGENCY_ID", "1")
	f.Setenv("AGENCY_BETS", "bets.csv")
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		config, v := of(which)
		if config < 0 || strings.ContainsRune(value, 0) {
			t.Skip("there is no such variable, or no environment can hold the value")
		}
		t.Setenv(v.name, value)
		taken, err := configs[config]()
		if err != nil {
			if !strings.Contains(err.Error(), v.name) {
				t.Fatalf("%s=%q: %v", v.name, value, err)
			}
			return
		}
		for i, listed := range variables(taken) {
			if listed.name != v.name {
				continue
			}
			said := fmt.Sprint(reflect.ValueOf(taken).Field(i).Interface())
			if v.name == "AGENCY_SECRET" && value != "" {
				if said != codec.SecretShown {
					t.Fatalf("the secret %q is logged as %s", value, said)
				}
				return
			}
			t.Setenv(v.name, said)
		}
		if again, err := configs[config](); err != nil || !reflect.DeepEqual(again, taken) {
			t.Fatalf("%s=%q is %+v, and again %+v, %v", v.name, value, taken, again, err)
		}
	})
}

// loaded loads a configuration from the environment and validates it.
func loaded[C any](validate func(C) error) func() (any, error) {
	return func() (any, error) {
		var c C
		if err := loadEnvironment(&c); err != nil {
			return c, err
		}
		return c, validate(c)
	}
}
