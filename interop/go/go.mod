module lacre-interop

go 1.19
