package main

import (
	"bytes"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// value returns the property at a path, or nothing where it is unset.
func value(obj any, path string) any {
	v := reflect.ValueOf(obj)
	optional := false
	for _, part := range strings.Split(path, ".") {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			if v.IsNil() {
				return nil
			}
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return nil
		}
		f, ok := v.Type().FieldByName(strings.ToUpper(part[:1]) + part[1:])
		if !ok {
			return nil
		}
		optional = strings.Contains(f.Tag.Get("xml"), "omitempty")
		v = v.FieldByIndex(f.Index)
	}
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		if v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
			break
		}
		v, optional = v.Elem(), false
	}
	if optional && v.IsZero() {
		return nil
	}
	if v.Kind() == reflect.Slice {
		return wrap(v)
	}
	return v.Interface()
}

// wrap makes the ArrayOf… of a list.
func wrap(v reflect.Value) any {
	elem := v.Type().Elem()
	name := elem.Name()
	if elem.Kind() == reflect.Interface {
		name = strings.TrimPrefix(name, "Base")
	}
	switch elem.Kind() {
	case reflect.Int32:
		name = "Int"
	case reflect.Int64:
		name = "Long"
	case reflect.String:
		if elem.PkgPath() == "" {
			name = "String"
		}
	case reflect.Uint8:
		name = "Byte"
	}
	t, ok := types.TypeFunc()("ArrayOf" + name)
	if !ok {
		return nil
	}
	array := reflect.New(t)
	array.Elem().Field(0).Set(v.Convert(array.Elem().Field(0).Type()))
	return array.Elem().Interface()
}

const verbose = `xmlns:_XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance" _XMLSchema-instance:type=`

// encode encodes a value as an element of this name with its type; nothing where it is unset.
func encode(name string, val any) []byte {
	if val == nil {
		return nil
	}
	var b bytes.Buffer
	type typed struct {
		Val types.AnyType `xml:"val,typeattr"`
	}
	e := xml.NewEncoder(&b)
	if err := e.EncodeElement(typed{val}, xml.StartElement{Name: xml.Name{Local: name}}); err != nil {
		return nil
	}
	if e.Flush() != nil {
		return nil
	}
	out := b.Bytes()
	out = bytes.TrimSuffix(bytes.TrimPrefix(out, []byte("<"+name+">")), []byte("</"+name+">"))
	out = bytes.ReplaceAll(out, []byte(verbose), []byte("xsi:type="))
	out = bytes.ReplaceAll(out, []byte("_XMLSchema-instance:type="), []byte("xsi:type="))
	out = bytes.ReplaceAll(out, []byte(` xmlns:_XMLSchema="http://www.w3.org/2001/XMLSchema"`), nil)
	return bytes.ReplaceAll(out, []byte(`xsi:type="_XMLSchema:`), []byte(`xsi:type="xsd:`))
}

// managed returns the govmomi type inside a simulator's object.
func managed(obj mo.Reference) any {
	v := reflect.ValueOf(obj).Elem()
	for !strings.HasSuffix(v.Type().PkgPath(), "/mo") {
		if v = v.Field(0); v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
	}
	return v.Addr().Interface()
}
