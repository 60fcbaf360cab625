package server

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"

	"github.com/veltrix/cairn"
)

const (
	bodyBytesMax = 4 << 10   // of a body that is not an array of claims
	huntBytesMax = 512 << 10 // of a new hunt, whose region may be GeoJSON
)

// strictJSON is huma's format for JSON. Bodies are read by the rules that
// claims are read by: no name twice, no name unknown, UTF-8 throughout, and
// nothing behind the end.
var strictJSON = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		enc := stdjson.NewEncoder(w) // whose omitempty keeps a pointer to ""
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	},
	Unmarshal: func(data []byte, v any) error {
		if err := json.Unmarshal(data, v, json.RejectUnknownMembers(true)); err != nil {
			f := jsonField(err)
			return errors.New(strings.TrimPrefix(f.Field+": ", ": ") + f.Message)
		}
		return nil
	},
}

// decodeBody decodes a body that huma does not, or returns the 400 that names
// what is wrong.
func decodeBody(data []byte, v any) *Problem {
	if err := json.Unmarshal(data, v, json.RejectUnknownMembers(true)); err != nil {
		return badFields(jsonField(err))
	}
	return nil
}

// typeName says in the API's words what a Go type wants to be.
func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[cairn.Cell]():
		return "a geohash as a string"
	case reflect.TypeFor[cairn.Duration]():
		return "a duration as a string, such as 1s"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Int32:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "a boolean"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Pointer:
		return typeName(t.Elem())
	}
	return "another type"
}

// jsonOnly returns the 415 for a request whose body does not say that it is
// JSON, or is packed. A body without a type is refused as well: only a form of
// another site can send one without a browser asking first.
func jsonOnly(r *http.Request) *Problem {
	if ce := r.Header.Get("Content-Encoding"); ce != "" && !strings.EqualFold(ce, "identity") {
		p := problem(http.StatusUnsupportedMediaType, "", "Content-Encoding: is %.60q; want none", ce)
		p.Errors = []Field{{In: "header", Field: "Content-Encoding", Message: fmt.Sprintf("is %.60q; want none", ce)}}
		return p.with("Accept-Encoding", "identity")
	}
	ct := r.Header.Get("Content-Type")
	if ct == "application/json" {
		return nil
	}
	media, params, err := mime.ParseMediaType(ct)
	charset := params["charset"]
	if err == nil && media == "application/json" && (charset == "" || strings.EqualFold(charset, "utf-8")) {
		return nil
	}
	p := problem(http.StatusUnsupportedMediaType, "", "Content-Type: is %.60q; want application/json", ct)
	p.Errors = []Field{{In: "header", Field: "Content-Type", Message: fmt.Sprintf("is %.60q; want application/json", ct)}}
	return p.with("Accept-Post", "application/json")
}
