package broadcast

import _ "embed"

// AsyncAPI is the AsyncAPI 3 document of /v1/live, in YAML. It must not be
// changed.
//
//go:embed asyncapi.yaml
var AsyncAPI []byte
