package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/validation"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/veltrix/cairn"
)

// The stable codes of problems. A client branches on these, never on a detail.
const (
	codeInvalid     = "invalid"
	codeToken       = "unauthorized"
	codeForbidden   = "forbidden"
	codeNotFound    = "not_found"
	codeMethod      = "method_not_allowed"
	codeTimeout     = "timeout"
	codeConflict    = "conflict"
	codeTooLarge    = "too_large"
	codeMedia       = "unsupported_media_type"
	codeUpgrade     = "upgrade_required"
	codeThrottled   = "throttled"
	codeInternal    = "internal"
	codeUnavailable = "unavailable"
	codeHunt        = "unknown_hunt"
	codeMap         = "unknown_map"
	codeTile        = "unknown_tile"
	codeClosed      = "closed"
	codePlayer      = "unknown_player"
	codeUnclaimed   = "unclaimed"
	codeHuntExists  = "hunt_exists"
)

var codeOfStatus = map[int]string{
	http.StatusBadRequest:            codeInvalid,
	http.StatusUnauthorized:          codeToken,
	http.StatusForbidden:             codeForbidden,
	http.StatusNotFound:              codeNotFound,
	http.StatusMethodNotAllowed:      codeMethod,
	http.StatusRequestTimeout:        codeTimeout,
	http.StatusConflict:              codeConflict,
	http.StatusGone:                  codeClosed,
	http.StatusRequestEntityTooLarge: codeTooLarge,
	http.StatusUnsupportedMediaType:  codeMedia,
	http.StatusUpgradeRequired:       codeUpgrade,
	http.StatusTooManyRequests:       codeThrottled,
	http.StatusInternalServerError:   codeInternal,
	http.StatusServiceUnavailable:    codeUnavailable,
}

// A Field names one value of a request that is wrong.
type Field struct {
	In      string `json:"in" enum:"body,query,path,header" doc:"Where the value stands."`
	Field   string `json:"field" doc:"The value's name; in a body its path, such as reward.max or [3].tile."`
	Message string `json:"message" doc:"What is wrong, and what would be right."`
}

// A Problem is every answer that is not a success: RFC 9457, with a stable
// code. Its type is about:blank, so the title is the status' own phrase.
type Problem struct {
	Type   string  `json:"type" enum:"about:blank" doc:"The status says what kind of problem it is, and code which."`
	Title  string  `json:"title" doc:"The status' phrase."`
	Status int     `json:"status" doc:"The HTTP status."`
	Code   string  `json:"code" doc:"What happened, as a word that never changes."`
	Detail string  `json:"detail" doc:"What happened, for a human."`
	Errors []Field `json:"errors,omitempty" doc:"Each value of the request that is wrong."`

	RequestID string `json:"request_id,omitempty" doc:"The request's id, as X-Request-Id has it: what the server's log lines have of it."`

	header http.Header // sent with it: Retry-After, WWW-Authenticate
	extra  []byte      // further members, as `"name":value,…`
}

// problem returns the problem of a status. An empty code is the status' own.
func problem(status int, code, format string, args ...any) *Problem {
	if code == "" {
		if code = codeOfStatus[status]; code == "" {
			code = codeInternal
		}
	}
	detail := format
	if len(args) > 0 {
		detail = fmt.Sprintf(format, args...)
	}
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// badFields returns the 400 that names fields, of which there is at least one.
func badFields(fields ...Field) *Problem {
	p := problem(http.StatusBadRequest, codeInvalid, "")
	p.Errors = fields
	p.Detail = detailOf(fields)
	return p
}

// detailOf writes the first few fields as one sentence.
func detailOf(fields []Field) string {
	var b strings.Builder
	for i, f := range fields {
		if i == 3 {
			fmt.Fprintf(&b, " and %d more", len(fields)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		if f.Field != "" {
			b.WriteString(f.Field + ": ")
		}
		b.WriteString(f.Message)
	}
	return b.String()
}

// fieldsOf returns the fields that err names: FieldErrors, joined or alone.
func fieldsOf(in string, err error) []Field {
	var fields []Field
	var walk func(error)
	walk = func(err error) {
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range many.Unwrap() {
				walk(e)
			}
			return
		}
		var fe *cairn.FieldError
		if errors.As(err, &fe) {
			fields = append(fields, Field{In: in, Field: fe.Field, Message: fe.Msg})
		}
	}
	walk(err)
	return fields
}

// with returns p with a header.
func (p *Problem) with(name, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
	return p
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// appendJSON appends p as JSON, extra members included.
func (p *Problem) appendJSON(b []byte) []byte {
	b = appendText(append(b, `{"type":`...), p.Type)
	b = appendText(append(b, `,"title":`...), p.Title)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(p.Status), 10)
	b = appendText(append(b, `,"code":`...), p.Code)
	b = appendText(append(b, `,"detail":`...), p.Detail)
	for i, f := range p.Errors {
		if i == 0 {
			b = append(b, `,"errors":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendText(append(b, `{"in":`...), f.In)
		b = appendText(append(b, `,"field":`...), f.Field)
		b = appendText(append(b, `,"message":`...), f.Message)
		b = append(b, '}')
		if i == len(p.Errors)-1 {
			b = append(b, ']')
		}
	}
	if len(p.extra) > 0 {
		b = append(append(b, ','), p.extra...)
	}
	if p.RequestID != "" {
		b = appendText(append(b, `,"request_id":`...), p.RequestID)
	}
	return append(b, '}')
}

// MarshalJSON implements json.Marshaler.
func (p *Problem) MarshalJSON() ([]byte, error) { return p.appendJSON(nil), nil }

// identified is the transformer that gives huma's answers that are Problems
// their request's id.
func identified(ctx huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*Problem)
	if !ok {
		return v, nil
	}
	q := *p
	_, w := humago.Unwrap(ctx)
	q.RequestID = w.Header().Get(headerRequestID)
	return &q, nil
}

// write sends p as the whole answer.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	for name, values := range p.header {
		h[name] = values
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	p.RequestID = h.Get(headerRequestID)
	body := p.appendJSON(make([]byte, 0, 512))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	w.Write(body)
}

// appendText appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendText[S ~string](b []byte, s S) []byte {
	b, _ = jsontext.AppendQuote(b, s) // its error says no more than that
	return b
}

// problemsOfHuma makes huma write its own refusals as Problems. huma keeps
// this in variables of its package, so it is done once for the process.
var problemsOfHuma = sync.OnceFunc(func() {
	huma.DefaultArrayNullable = false // no list is ever null here
	huma.ValidateStrictCasing = true  // "Name" is not "name": it is unknown
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return fromHuma(status, msg, errs)
	}
	huma.NewErrorWithContext = func(_ huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return fromHuma(status, msg, errs)
	}
})

// fromHuma turns a refusal of huma into a Problem. huma says 422 for a form
// that is wrong; here 422 is an answer to a puzzle that is.
func fromHuma(status int, msg string, errs []error) *Problem {
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	if status == http.StatusRequestEntityTooLarge {
		if _, limit, ok := strings.Cut(msg, "limit="); ok { // huma writes it into its text alone
			msg = "the body is over " + strings.TrimSuffix(limit, " bytes") + " bytes"
		}
		errs = []error{&huma.ErrorDetail{Location: "body", Message: msg}}
	}
	p := problem(max(status, 0), "", "%s", msg)
	if status >= http.StatusInternalServerError {
		return p // what broke is ours to log, not the client's to read
	}
	for _, err := range errs {
		var p2 *Problem
		if errors.As(err, &p2) {
			return p2
		}
		d, ok := err.(huma.ErrorDetailer)
		if !ok {
			continue
		}
		e := d.ErrorDetail()
		in, field, _ := strings.Cut(e.Location, ".")
		msg := e.Message
		if name, ok := missing(msg); ok {
			if msg = "is missing"; field != "" {
				name = field + "." + name
			}
			field = name
		}
		p.Errors = append(p.Errors, Field{In: in, Field: field, Message: msg})
	}
	if len(p.Errors) > 0 {
		p.Detail = detailOf(p.Errors)
	}
	return p
}

// missing returns the property that huma misses, which it names in its text
// alone.
func missing(msg string) (name string, ok bool) {
	before, after, _ := strings.Cut(validation.MsgExpectedRequiredProperty, "%s")
	if name, ok = strings.CutPrefix(msg, before); !ok {
		return "", false
	}
	return strings.CutSuffix(name, after)
}
