package integration

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/retryutils/retry"
)

// health answers Check by a script of errors, then well.
type health struct {
	healthpb.UnimplementedHealthServer
	calls  atomic.Int64
	script func(call int64) error
}

func (h *health) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if err := h.script(h.calls.Add(1)); err != nil {
		return nil, err
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func grpcServer(t testing.TB, h *health) healthpb.HealthClient {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, h)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return healthpb.NewHealthClient(conn)
}

func failing(err error, times int64) func(int64) error {
	return func(call int64) error {
		if call <= times {
			return err
		}
		return nil
	}
}

func hinted(t testing.TB, code codes.Code, d time.Duration) error {
	t.Helper()
	s, err := status.New(code, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	require.NoError(t, err)
	return s.Err()
}

// Each code of a unary call gets what it should: see GRPC.
func TestGRPCCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		calls   int64
		ok      bool
		failure bool
		wait    time.Duration
	}{
		"Unavailable":                   {status.Error(codes.Unavailable, "x"), 3, true, true, 0},
		"ResourceExhausted":             {status.Error(codes.ResourceExhausted, "x"), 1, false, true, 0},
		"ResourceExhausted with a hint": {hinted(t, codes.ResourceExhausted, 60*time.Millisecond), 3, true, false, 60 * time.Millisecond},
		"Unavailable with a hint":       {hinted(t, codes.Unavailable, 60*time.Millisecond), 3, true, false, 60 * time.Millisecond},
		"InvalidArgument":               {status.Error(codes.InvalidArgument, "x"), 1, false, false, 0},
		"NotFound":                      {status.Error(codes.NotFound, "x"), 1, false, false, 0},
		"Internal":                      {status.Error(codes.Internal, "x"), 1, false, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			server := &health{script: failing(c.err, 2)}
			client := grpcServer(t, server)
			breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
			require.NoError(t, err)
			cfg := retry.Config{InitialDelay: time.Millisecond, Breaker: breaker, OnWait: func(_ context.Context, e retry.Event) {
				assert.GreaterOrEqual(t, e.Delay, c.wait)
			}}
			began := time.Now()
			out, err := do(t.Context(), cfg, &healthpb.HealthCheckRequest{}, func(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
				return client.Check(ctx, in)
			})
			assert.Equal(t, c.calls, server.calls.Load())
			assert.Equal(t, c.ok, err == nil, "%v", err)
			if c.ok {
				assert.Equal(t, healthpb.HealthCheckResponse_SERVING, out.GetStatus())
				assert.GreaterOrEqual(t, time.Since(began), 2*c.wait)
			} else {
				assert.Equal(t, status.Code(c.err), status.Code(err), "the code is still there")
			}
			assert.Equal(t, c.failure, breaker.Snapshot().Failures+btoi(breaker.Snapshot().LastFailure != nil) > 0)
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A call that its own caller cancels says nothing about the server, though gRPC
// reports it with an error of its own type.
func TestGRPCCallersCancelIsNoFailure(t *testing.T) {
	started := make(chan struct{})
	block := make(chan struct{})
	server := &health{script: func(int64) error { close(started); <-block; return nil }}
	client := grpcServer(t, server)
	defer close(block)
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	_, err = do(ctx, retry.Config{Breaker: breaker}, &healthpb.HealthCheckRequest{}, func(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
		return client.Check(ctx, in)
	})
	assert.Equal(t, "canceled", retry.Outcome(err), "%v", err)
	assert.Equal(t, retry.StateClosed, breaker.State())
	assert.Zero(t, breaker.Snapshot().Failures)
}
