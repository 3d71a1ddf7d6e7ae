package tests

func retry() {}
