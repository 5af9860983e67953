package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/caarlos0/env/v11"
	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/settings"
)

// errEnvironment says that an environment variable can't be used.
var errEnvironment = settings.ErrIllegal

// variable is an environment variable, as the tags of a configuration's field describe it. Package
// settings lists the tags.
type variable struct{ name, defaultValue, help, legal string }

// variables lists the variables of configurations, which are structs, in the order of their fields.
func variables(configurations ...any) []variable {
	var list []variable
	for _, c := range configurations {
		for field := range reflect.TypeOf(c).Fields() {
			if tag := field.Tag; tag.Get("env") != "" {
				list = append(list, variable{
					tag.Get("env"), tag.Get("envDefault"), tag.Get("help"), settings.Legal(field),
				})
			}
		}
	}
	return list
}

// settingFields are a configuration's variables and their values, for the log line `config`.
func settingFields(c any) []zap.Field {
	var fields []zap.Field
	value := reflect.ValueOf(c)
	for i, v := range variables(c) {
		fields = append(fields, zap.String(v.name, fmt.Sprint(value.Field(i).Interface())))
	}
	return fields
}

// environmentHelp is the part of a command's help that lists its variables.
func environmentHelp(configurations ...any) string {
	var b strings.Builder
	b.WriteString("Environment:\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, v := range variables(configurations...) {
		fmt.Fprintf(table, "  %s\t%s\t%s (%s)\n", v.name, v.defaultValue, v.help, v.legal)
	}
	_ = table.Flush() // writing to a strings.Builder doesn't fail
	return b.String()
}

// loadEnvironment fills *c from the process's environment. An empty variable counts as unset. The
// error is one line that names the variable, its value unless it is a secret, and the legal values.
func loadEnvironment[C any](c *C) error {
	values := map[string]string{}
	for _, entry := range os.Environ() {
		if name, value, ok := strings.Cut(entry, "="); ok && value != "" {
			values[name] = value
		}
	}
	err := env.ParseWithOptions(c, env.Options{Environment: values})
	wrong, _ := errors.AsType[env.ParseError](err)
	if field, ok := reflect.TypeFor[C]().FieldByName(wrong.Name); ok {
		name := field.Tag.Get("env")
		value := values[name]
		if field.Type == reflect.TypeFor[codec.Secret]() {
			value = codec.SecretShown
		}
		return settings.Illegal(name, value, settings.Legal(field))
	}
	return err
}
