module ringspan.test/peers

go 1.22
