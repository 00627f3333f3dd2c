module interlock.dev/launch

go 1.26
