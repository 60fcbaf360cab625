package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// An otlp sends spans to a collector: OTLP/HTTP with protobuf
// (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP Request"). OpenTelemetry's own
// client for it brings the whole of gRPC along, which nobody here speaks: its
// messages are in one package with a gRPC service.
type otlp struct {
	url     string // of the traces, without a password
	post    string
	headers http.Header
	client  http.Client
}

var _ otlptrace.Client = (*otlp)(nil)

// newOTLP returns a client for the collector of --traces, with the headers that
// OTEL_EXPORTER_OTLP_TRACES_HEADERS or OTEL_EXPORTER_OTLP_HEADERS have.
func newOTLP(flag string) (*otlp, error) {
	u, err := url.Parse(flag)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usagef("--traces: is %q; want the URL of a collector, such as http://127.0.0.1:4318", flag)
	}
	if !strings.HasSuffix(u.Path, "/v1/traces") {
		u = u.JoinPath("v1/traces") // as OTEL_EXPORTER_OTLP_ENDPOINT has it
	}
	c := &otlp{url: u.Redacted(), post: u.String(), headers: http.Header{"Content-Type": {"application/x-protobuf"}}}
	c.client.Timeout = spansWithin
	c.client.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: spansWarning}
	const all, traces = "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
	for pair := range strings.SplitSeq(cmp.Or(os.Getenv(traces), os.Getenv(all)), ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil {
			return nil, usagef("%s: has a pair that is none; want NAME=VALUE,… with what is special in VALUE escaped as in a URL", all)
		}
		c.headers.Set(name, value)
	}
	return c, nil
}

// Start implements otlptrace.Client.
func (c *otlp) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *otlp) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. It tries once: spans are not worth
// what a queue of them takes that grows while a collector is away.
func (c *otlp) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// On the wire an ExportTraceServiceRequest is the same.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.post, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = c.headers.Clone()
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s", c.url, resp.Status)
	}
	return err
}
