package main

import (
	"fmt"
	"reflect"

	"go.uber.org/zap"
)

// settingFields are a configuration's variables and their values, for the log line `config`.
func settingFields(c any) []zap.Field {
	var fields []zap.Field
	value := reflect.ValueOf(c)
	for i, v := range variables(c) {
		fields = append(fields, zap.String(v.name, fmt.Sprint(value.Field(i).Interface())))
	}
	return fields
}
