module github.com/retryutils/retry/mutate

go 1.25.0
