package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn/internal/trail"
)

// A tracesFlag is --traces of the commands that make spans.
type tracesFlag struct {
	Traces string `help:"Send traces of claims to this collector, OTLP over HTTP, such as http://127.0.0.1:4318. Without it there are none." placeholder:"URL"`
}

// edgeTraceFlags say of what an edge begins traces.
type edgeTraceFlags struct {
	TraceRatio   float64 `help:"Share of requests, and of batches of claims on a socket, that are traced, with --traces: 0 to 1." default:"0.01"`
	TraceParents bool    `help:"Go on with the traceparent that a request brings. Only behind a proxy that takes away the players' own: it decides what is traced."`
}

func (f edgeTraceFlags) check() error {
	if !(f.TraceRatio >= 0 && f.TraceRatio <= 1) {
		return usagef("--trace-ratio: is %v; want 0 to 1, such as 0.01", f.TraceRatio)
	}
	return nil
}

// edge returns what an edge needs to begin traces.
func (f edgeTraceFlags) edge(t *traces) trail.Edge {
	return trail.Edge{Tracer: t.tracer, Ratio: f.TraceRatio, Parents: f.TraceParents}
}

// What bounds the harm that a collector can do.
const (
	spansWithin  = 3 * time.Second // for one export, tries included, and for the last ones when the process ends
	spansQueue   = 8192            // that wait to be exported; further ones are dropped
	spansBatch   = 2048            // in one export, at most
	spanTextMax  = 256             // of an attribute: what a client calls a hunt may be anything
	spansWarning = time.Minute     // between two lines of a collector that can't be reached
)

// traces are the spans of a process on their way to a collector. The zero value
// makes none.
type traces struct {
	tracer   trace.Tracer // nil: no spans
	provider *sdktrace.TracerProvider
	log      *slog.Logger
}

// begin begins to trace, if --traces was given, as one process of a role.
func (f tracesFlag) begin(ctx context.Context, role, name string, log *slog.Logger, reg prometheus.Registerer) (*traces, error) {
	if f.Traces == "" {
		return &traces{}, nil
	}
	u, err := collectorURL(f.Traces)
	if err != nil {
		return nil, err
	}
	to, err := otlptracehttp.New(ctx, // which connects to nobody yet, and knows OTEL_EXPORTER_OTLP_HEADERS
		otlptracehttp.WithEndpointURL(u.String()),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithTimeout(spansWithin),
		// Spans are not worth a queue that grows while a collector is away.
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}),
	)
	if err != nil {
		return nil, fmt.Errorf("--traces: %w", err)
	}
	res, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "cairn-"+role),
			attribute.String("service.instance.id", name),
			attribute.String("service.version", version),
		),
		resource.WithFromEnv(), // OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME
	)
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, usagef("--traces: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t := &traces{log: log}
	out := newSpanExporter(to, log, reg)
	limits := sdktrace.NewSpanLimits() // and those of OTEL_SPAN_*
	if limits.AttributeValueLengthLimit < 0 {
		limits.AttributeValueLengthLimit = spanTextMax
	}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithResource(res),
		// What begins here was chosen by the edge, and what goes on here by
		// whoever began it.
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithSpanProcessor(out),
		sdktrace.WithSpanProcessor(sdktrace.NewBatchSpanProcessor(out,
			sdktrace.WithMaxQueueSize(spansQueue), sdktrace.WithMaxExportBatchSize(spansBatch), sdktrace.WithBatchTimeout(time.Second), sdktrace.WithExportTimeout(spansWithin))),
	)
	t.tracer = t.provider.Tracer("github.com/veltrix/cairn", trace.WithInstrumentationVersion(version))
	log.Info("traces are on", "to", u.Redacted())
	return t, nil
}

// collectorURL returns where a collector takes traces: --traces, with the path of
// OTLP over HTTP if it has none of its own.
func collectorURL(flag string) (*url.URL, error) {
	u, err := url.Parse(flag)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usagef("--traces: is %q; want the URL of a collector, such as http://127.0.0.1:4318", flag)
	}
	if !strings.HasSuffix(u.Path, "/v1/traces") {
		u = u.JoinPath("v1/traces") // as OTEL_EXPORTER_OTLP_ENDPOINT has it
	}
	return u, nil
}

// close exports what is left, for a moment at most.
func (t *traces) close() {
	if t == nil || t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), spansWithin)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("the last spans may be lost", "err", err)
	}
}

// A spanExporter exports spans, counts them, and never fails: a collector that
// can't be reached costs its spans, and a line a minute.
type spanExporter struct {
	*otlptrace.Exporter
	log                 *slog.Logger
	ended, sent, failed prometheus.Counter

	mu    sync.Mutex
	quiet time.Time // no line before
}

func newSpanExporter(to *otlptrace.Exporter, log *slog.Logger, reg prometheus.Registerer) *spanExporter {
	spans := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_trace_spans_total",
		Help: "Spans that ended, that the collector took, and that it did not; the others were dropped for the queue was full, or wait in it.",
	}, []string{"state"})
	reg.MustRegister(spans)
	return &spanExporter{
		Exporter: to, log: log,
		ended: spans.WithLabelValues("ended"), sent: spans.WithLabelValues("sent"), failed: spans.WithLabelValues("failed"),
	}
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.Exporter.ExportSpans(ctx, spans)
	if err == nil {
		e.sent.Add(float64(len(spans)))
		return nil
	}
	e.failed.Add(float64(len(spans)))
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := time.Now(); now.After(e.quiet) {
		e.quiet = now.Add(spansWarning)
		e.log.Warn("spans are lost: the collector does not take them", "spans", len(spans), "err", err)
	}
	return nil
}

// OnStart implements sdktrace.SpanProcessor.
func (e *spanExporter) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (e *spanExporter) OnEnd(sdktrace.ReadOnlySpan) { e.ended.Inc() }

// ForceFlush implements sdktrace.SpanProcessor.
func (e *spanExporter) ForceFlush(context.Context) error { return nil }
