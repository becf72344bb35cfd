// Sends a form with Go's standard library.
package main

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
)

func main() {
	base, kind, file := os.Args[1], os.Args[2], os.Args[3]
	data, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	form.WriteField("title", "go "+kind)
	form.WriteField("room", "films")
	part, _ := form.CreateFormFile("img", filepath.Base(file))
	part.Write(data)
	form.Close()
	if _, err := http.Post(base+"/go-"+kind, form.FormDataContentType(), &body); err != nil {
		panic(err)
	}
}
