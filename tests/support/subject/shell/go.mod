module shell

go 1.19
