module lang

go 1.25

require github.com/yaacov/tree-search-language/v6 v6.0.11
