module example.com/clock

go 1.26.0

toolchain go1.27.3

require golang.org/x/sync v0.25.0
