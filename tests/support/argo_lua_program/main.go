// Command argo-lua reads pairs of a script and an object, one in JSON a line, and prints what Argo CD's health check makes of each.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
)

type check struct {
	Script string
	Object map[string]any
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// libraries are those that Argo CD opens for a script of argocd-cm, without its own version of `os`.
var libraries = []struct {
	name string
	open lua.LGFunction
}{
	{lua.LoadLibName, lua.OpenPackage},
	{lua.BaseLibName, lua.OpenBase},
	{lua.TabLibName, lua.OpenTable},
}

func main() {
	checks := json.NewDecoder(os.Stdin)
	checks.UseNumber()
	for {
		var one check
		err := checks.Decode(&one)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(err)
		}
		found, err := run(one)
		if err != nil {
			found = health{Status: "Error", Message: err.Error()}
		}
		text, err := json.Marshal(found)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(bytes.TrimSpace(text)))
	}
}

func run(one check) (health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range libraries {
		open := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(open, lua.LString(library.name)); err != nil {
			return health{}, err
		}
	}
	limited, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limited)
	state.SetGlobal("obj", decode(state, one.Object))
	if err := state.DoString(one.Script); err != nil {
		return health{}, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return health{}, fmt.Errorf("a script returns a table, and this one %s", state.Get(-1).Type())
	}
	return health{Status: table.RawGetString("status").String(), Message: table.RawGetString("message").String()}, nil
}

func decode(state *lua.LState, value any) lua.LValue {
	switch known := value.(type) {
	case bool:
		return lua.LBool(known)
	case json.Number:
		number, err := known.Float64()
		if err != nil {
			panic(err)
		}
		return lua.LNumber(number)
	case string:
		return lua.LString(known)
	case []any:
		list := state.CreateTable(len(known), 0)
		for _, item := range known {
			list.Append(decode(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(known))
		for key, item := range known {
			table.RawSetString(key, decode(state, item))
		}
		return table
	}
	return lua.LNil
}
