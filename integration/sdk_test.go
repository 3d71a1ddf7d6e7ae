package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/go-github/v66/github"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"golang.org/x/oauth2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/retryutils/retry"
)

// faulty answers the first requests to each method and path with faults, one
// after the other, and counts the requests.
type faulty struct {
	*httptest.Server
	faults []http.HandlerFunc
	good   http.Handler

	mu       sync.Mutex
	requests map[string]int
	bodies   map[string]string // the last, by its sum
}

func newFaulty(t testing.TB, good http.HandlerFunc, faults ...http.HandlerFunc) *faulty {
	f := &faulty{faults: faults, good: good, requests: make(map[string]int), bodies: make(map[string]string)}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Method + " " + r.URL.Path
	f.mu.Lock()
	n := f.requests[key]
	f.requests[key]++
	f.mu.Unlock()
	if n < len(f.faults) {
		f.faults[n](w, r)
		return
	}
	f.good.ServeHTTP(w, r)
}

func (f *faulty) count(key string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[key]
}

func (f *faulty) total() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.requests {
		n += k
	}
	return n
}

func answering(code int, pairs ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i < len(pairs); i += 2 {
			w.Header().Set(pairs[i], pairs[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, `{"message":"later"}`)
	}
}

func resetting(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

// cutting promises more than it sends.
func cutting(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"login":`)
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	resetting(w, nil)
}

var (
	unavailable = answering(503, "Retry-After", "0")
	throttling  = answering(429, "Retry-After-Ms", "20")
)

// over is a plain client over the library's Transport.
func over(t testing.TB, base http.RoundTripper, opts ...retry.Option) *http.Client {
	t.Helper()
	transport, err := retry.NewTransport(base, quick, opts...)
	require.NoError(t, err)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func TestGitHub(t *testing.T) {
	server := newFaulty(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"login":"octocat","number":7}`) },
		unavailable, resetting, throttling)
	client := github.NewClient(over(t, nil))
	client.BaseURL, _ = url.Parse(server.URL + "/")
	who, _, err := client.Users.Get(t.Context(), "octocat")
	require.NoError(t, err)
	assert.Equal(t, "octocat", who.GetLogin())
	assert.Equal(t, 4, server.count("GET /users/octocat"))

	// A POST may have been carried out when the connection breaks: the SDK, which
	// knows nothing of a repetition, gets the error.
	_, _, err = client.Issues.Create(t.Context(), "o", "r", &github.IssueRequest{Title: github.String("x")})
	assert.Error(t, err)
	assert.Equal(t, 2, server.count("POST /repos/o/r/issues"), "503 says that nothing was done, a reset says nothing")

	missing := newFaulty(t, answering(404))
	client.BaseURL, _ = url.Parse(missing.URL + "/")
	_, resp, err := client.Users.Get(t.Context(), "nobody")
	var answer *github.ErrorResponse
	require.ErrorAs(t, err, &answer, "the SDK reads the error's body itself")
	assert.Equal(t, "later", answer.Message)
	assert.Equal(t, 404, resp.StatusCode)
	assert.Equal(t, 1, missing.total())
}

// bucket is as much of an object store as the SDKs need.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	parts   map[string]map[string][]byte
	posts   atomic.Int64
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		data = unchunk(data)
	} else if sum := r.Header.Get("X-Amz-Content-Sha256"); len(sum) == 64 && r.Method == http.MethodPut {
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
			w.WriteHeader(400)
			return
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	id, part := r.URL.Query().Get("uploadId"), r.URL.Query().Get("partNumber")
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(data))
	switch {
	case r.Method == http.MethodPost && r.URL.Query().Has("uploads"):
		id = fmt.Sprint(b.posts.Add(1))
		b.parts[id] = make(map[string][]byte)
		fmt.Fprintf(w, `<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>`, id)
	case r.Method == http.MethodPut && id != "":
		b.parts[id][part] = data
		w.Header().Set("ETag", etag)
	case r.Method == http.MethodPost && id != "":
		var all []byte
		for n := 1; n <= len(b.parts[id]); n++ {
			all = append(all, b.parts[id][fmt.Sprint(n)]...)
		}
		b.objects[r.URL.Path] = all
		fmt.Fprintf(w, `<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><ETag>%s</ETag></CompleteMultipartUploadResult>`, etag)
	case r.Method == http.MethodPut:
		b.objects[r.URL.Path] = data
		w.Header().Set("ETag", etag)
	case r.Method == http.MethodGet && r.URL.Query().Has("location"):
		_ = xml.NewEncoder(w).Encode(struct {
			XMLName xml.Name `xml:"LocationConstraint"`
		}{})
	case r.Method == http.MethodGet:
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		_, _ = w.Write(b.objects[r.URL.Path])
	}
}

// unchunk takes the signed chunks of a streamed upload apart.
func unchunk(data []byte) (all []byte) {
	for len(data) > 0 {
		line, rest, ok := bytes.Cut(data, []byte("\r\n"))
		size := 0
		if _, err := fmt.Sscanf(string(line), "%x", &size); err != nil || !ok || size == 0 || size > len(rest) {
			break
		}
		all, data = append(all, rest[:size]...), bytes.TrimPrefix(rest[size:], []byte("\r\n"))
	}
	return all
}

func newBucket() *bucket {
	return &bucket{objects: make(map[string][]byte), parts: make(map[string]map[string][]byte)}
}

// The AWS SDK with its own retries off: an upload and a download survive faults,
// and signatures stay valid (the store checks the payload's hash). With its own
// retries on, the two multiply on a constant 503.
func TestS3(t *testing.T) {
	store := newBucket()
	server := newFaulty(t, store.ServeHTTP, unavailable, resetting)
	client := func(server *faulty, retryer func() aws.Retryer) *s3.Client {
		return s3.New(s3.Options{
			BaseEndpoint: aws.String(server.URL), Region: "eu-central-1", UsePathStyle: true,
			Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
			HTTPClient:  over(t, nil), Retryer: retryer(),
		})
	}
	none := func() aws.Retryer { return aws.NopRetryer{} }
	off := client(server, none)
	body := bytes.Repeat([]byte("genes"), 100_000)
	_, err := off.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("k"), Body: bytes.NewReader(body)})
	require.NoError(t, err)
	assert.Equal(t, 3, server.count("PUT /b/k"))
	out, err := off.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	require.NoError(t, err)
	got, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(body, got))
	assert.Equal(t, 3, server.count("GET /b/k"))

	down := newFaulty(t, answering(503))
	_, err = client(down, none).GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	assert.Error(t, err)
	assert.Equal(t, 6, down.total())
	on := client(down, func() aws.Retryer {
		return awsretry.NewStandard(func(o *awsretry.StandardOptions) { o.MaxBackoff = time.Millisecond })
	})
	_, err = on.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	assert.Error(t, err)
	assert.Equal(t, 6+18, down.total(), "3 of the SDK's times 6 of ours: switch one of them off")
}

// minio-go sends parts of 5 MiB without GetBody: they can be sent again if the
// buffer is as large. Streams and multipart uploads arrive whole.
func TestMinio(t *testing.T) {
	store := newBucket()
	server := newFaulty(t, store.ServeHTTP, unavailable)
	client, err := minio.New(strings.TrimPrefix(server.URL, "http://"), &minio.Options{
		Creds: miniocreds.NewStaticV4("key", "secretsecret", ""), Region: "us-east-1", MaxRetries: 1,
		Transport: over(t, nil, retry.ReplayBuffer(8<<20)).Transport,
	})
	require.NoError(t, err)
	body := bytes.Repeat([]byte("0123456789"), 1_300_000) // three parts
	_, err = client.PutObject(t.Context(), "bkt", "stream", struct{ io.Reader }{bytes.NewReader(body)}, -1, minio.PutObjectOptions{PartSize: 5 << 20})
	require.NoError(t, err)
	store.mu.Lock()
	assert.True(t, bytes.Equal(body, store.objects["/bkt/stream"]), "multipart, of unknown length: %d", len(store.objects["/bkt/stream"]))
	store.mu.Unlock()
	_, err = client.PutObject(t.Context(), "bkt", "small", strings.NewReader("small"), 5, minio.PutObjectOptions{})
	require.NoError(t, err)
	object, err := client.GetObject(t.Context(), "bkt", "stream", minio.GetObjectOptions{})
	require.NoError(t, err)
	got, err := io.ReadAll(object)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(body, got))
}

// The Elasticsearch client retries 502 to 504 by itself: with DisableRetry the
// library does.
func TestElasticsearch(t *testing.T) {
	server := newFaulty(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"hits":{"total":{"value":1}}}`)
	}, unavailable, throttling)
	client, err := elasticsearch.NewClient(elasticsearch.Config{Addresses: []string{server.URL}, Transport: over(t, nil).Transport, DisableRetry: true})
	require.NoError(t, err)
	resp, err := client.Search(client.Search.WithContext(t.Context()), client.Search.WithIndex("genes"))
	require.NoError(t, err)
	defer resp.Body.Close()
	var out struct {
		Hits struct{ Total struct{ Value int } }
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
	assert.Equal(t, 1, out.Hits.Total.Value)
}

func TestPrometheusAPI(t *testing.T) {
	server := newFaulty(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}`)
	}, unavailable, throttling)
	client, err := api.NewClient(api.Config{Address: server.URL, Client: over(t, nil)})
	require.NoError(t, err)
	value, _, _, err := promv1.NewAPI(client).Query(t.Context(), "up", time.Time{})
	require.NoError(t, err)
	assert.Equal(t, "scalar: 2 @[1]", value.String())
	assert.Equal(t, 3, server.count("POST /api/v1/query"), "the server said that it did not act")
}

// A watch streams through the library as it comes, after faults at its start.
func TestKubernetesWatch(t *testing.T) {
	next := make(chan string)
	server := newFaulty(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for {
			select {
			case name := <-next:
				fmt.Fprintf(w, `{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":%q}}}`+"\n", name)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}, unavailable, resetting)
	cfg := &rest.Config{Host: server.URL, Transport: over(t, nil).Transport}
	clients, err := kubernetes.NewForConfig(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := clients.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	defer w.Stop()
	for _, name := range []string{"a", "b", "c"} {
		next <- name // the one before has been received: nothing is held back
		select {
		case event := <-w.ResultChan():
			assert.Equal(t, watch.Added, event.Type)
			assert.Contains(t, fmt.Sprint(event.Object), name)
		case <-time.After(5 * time.Second):
			t.Fatal("the stream is held back")
		}
	}
}

// Tokens are fetched inside of the library's transport: a refusal is final, and
// asked for once, and a token that is needed is fetched once.
func TestOAuth2(t *testing.T) {
	var grants atomic.Int64
	refuse := atomic.Bool{}
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grants.Add(1)
		w.Header().Set("Content-Type", "application/json")
		if refuse.Load() {
			w.WriteHeader(400)
			fmt.Fprint(w, `{"error":"invalid_grant"}`)
			return
		}
		fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
	}))
	defer tokens.Close()
	server := newFaulty(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Authorization")) }, unavailable, resetting)
	config := &oauth2.Config{Endpoint: oauth2.Endpoint{TokenURL: tokens.URL}}
	expired := &oauth2.Token{RefreshToken: "r", Expiry: time.Now().Add(-time.Hour)}
	cfg := quick
	cfg.RetryIf = OAuth2Retryable

	t.Run("inside", func(t *testing.T) {
		base := config.Client(t.Context(), expired)
		client, err := retry.NewRetryableClient(base, cfg)
		require.NoError(t, err)
		resp, err := client.Get(t.Context(), server.URL+"/inside")
		require.NoError(t, err)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		assert.Equal(t, "Bearer t", string(body))
		assert.EqualValues(t, 1, grants.Swap(0))
		assert.Equal(t, 3, server.count("GET /inside"))
	})
	t.Run("outside", func(t *testing.T) {
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, over(t, nil))
		resp, err := config.Client(ctx, expired).Get(server.URL + "/outside")
		require.NoError(t, err)
		resp.Body.Close()
		assert.EqualValues(t, 1, grants.Swap(0))
	})
	t.Run("refused", func(t *testing.T) {
		refuse.Store(true)
		breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, IsFailure: func(err error) bool {
			var refused *oauth2.RetrieveError
			return !errors.As(err, &refused) && retry.IsFailure(err)
		}})
		require.NoError(t, err)
		cfg := cfg
		cfg.Breaker = breaker
		client, err := retry.NewRetryableClient(config.Client(t.Context(), expired), cfg)
		require.NoError(t, err)
		_, err = client.Get(t.Context(), server.URL+"/refused")
		var refused *oauth2.RetrieveError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, "invalid_grant", refused.ErrorCode)
		assert.EqualValues(t, 1, grants.Load(), "asked once")
		assert.Zero(t, server.count("GET /refused"))
		assert.Equal(t, retry.StateClosed, breaker.State(), "the host was never called")
	})
}

// otelhttp inside and outside of the library: each sees what it should, and
// nothing is sent twice by the two together.
func TestOtelHTTP(t *testing.T) {
	server := newFaulty(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}, unavailable, resetting)
	for name, client := range map[string]*http.Client{
		"inside":  over(t, otelhttp.NewTransport(http.DefaultTransport)),
		"outside": {Transport: otelhttp.NewTransport(over(t, nil).Transport)},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+"/"+name, strings.NewReader("body"))
			require.NoError(t, err)
			resp, err := client.Do(req)
			require.NoError(t, err)
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			assert.Equal(t, "body", string(body))
			assert.Equal(t, 3, server.count("PUT /"+name))

			// What cannot be sent is one attempt, whatever wraps the transport.
			bad, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			require.NoError(t, err)
			bad.Header["bad header"] = []string{"x"}
			began := server.total()
			_, err = client.Do(bad)
			assert.Error(t, err)
			assert.Equal(t, began, server.total())
		})
	}
}
