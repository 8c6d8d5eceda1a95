package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// largest is how many bytes an image's configuration with its history, or a build definition, may have. Both hold the
// values of variables, expanded.
const largest = 4 << 20

type request struct {
	Dockerfile   []byte                     `json:"dockerfile"`
	Targets      []string                   `json:"targets"`
	Platform     string                     `json:"platform"`
	BuildArgs    map[string]string          `json:"build_args"`
	Namespace    string                     `json:"namespace"`
	Instructions int                        `json:"instructions"`
	Configs      map[string]json.RawMessage `json:"configs"`
}

type directive struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Line  int    `json:"line"`
}

type instruction struct {
	Name     string   `json:"name"`
	Line     int      `json:"line"`
	Lines    int      `json:"lines"`
	Flags    []string `json:"flags"`
	Words    []string `json:"words"`
	JSON     bool     `json:"json"`
	Heredocs int      `json:"heredocs"`
}

type stage struct {
	Name     string         `json:"name"`
	Base     string         `json:"base"`
	Platform string         `json:"platform"`
	Line     int            `json:"line"`
	Commands map[string]int `json:"commands"`
}

type problem struct {
	Message string `json:"message"`
	Line    int    `json:"line"`
	Excess  bool   `json:"excess"`
}

type target struct {
	Graph
	Base   string   `json:"base"`
	Images []string `json:"images"`
	Error  *problem `json:"error"`
}

type reading struct {
	Directives   []directive       `json:"directives"`
	Shebang      bool              `json:"shebang"`
	JSON         bool              `json:"json"`
	Arguments    []directive       `json:"arguments"`
	Instructions []instruction     `json:"instructions"`
	Stages       []stage           `json:"stages"`
	Targets      map[string]target `json:"targets"`
	Error        *problem          `json:"error"`
}

func read(ctx context.Context, input request) reading {
	out := reading{Directives: []directive{}, Arguments: []directive{}, Instructions: []instruction{}, Stages: []stage{}, Targets: map[string]target{}}
	out.frontend(input.Dockerfile)
	parsed, err := parser.Parse(bytes.NewReader(input.Dockerfile))
	if err != nil {
		out.Error = located(err)
		return out
	}
	if len(parsed.AST.Children) > input.Instructions {
		out.Error = &problem{fmt.Sprintf("it has more than %d instructions", input.Instructions), 0, true}
		return out
	}
	for _, node := range parsed.AST.Children {
		out.Instructions = append(out.Instructions, described(node))
	}
	stages, meta, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		out.Error = located(err)
		return out
	}
	for _, each := range meta {
		out.argument(each.Args, each.Location())
	}
	for _, each := range stages {
		described := stage{each.Name, each.BaseName, each.Platform, line(each.Location), map[string]int{}}
		for _, command := range each.Commands {
			described.Commands[command.Name()]++
			if arg, ok := command.(*instructions.ArgCommand); ok {
				out.argument(arg.Args, arg.Location())
			}
		}
		out.Stages = append(out.Stages, described)
	}
	for _, name := range input.Targets {
		out.Targets[name] = convert(ctx, input, name)
	}
	return out
}

// described tells an instruction as it is written, with the words of those that name other things.
func described(node *parser.Node) instruction {
	out := instruction{
		Name:     strings.ToUpper(node.Value),
		Line:     node.StartLine,
		Lines:    node.EndLine - node.StartLine + 1,
		Flags:    append([]string{}, node.Flags...),
		Words:    []string{},
		JSON:     node.Attributes["json"],
		Heredocs: len(node.Heredocs),
	}
	switch out.Name {
	case "ADD", "ARG", "COPY", "FROM":
		for word := node.Next; word != nil; word = word.Next {
			out.Words = append(out.Words, word.Value)
		}
	}
	return out
}

// frontend finds what makes BuildKit load another frontend, in every form that it accepts.
func (out *reading) frontend(content []byte) {
	if _, command, location, ok := parser.DetectSyntax(content); ok {
		out.Directives = append(out.Directives, directive{"syntax", command, line(location)})
	}
	for _, name := range []string{"escape", "check"} {
		if value, _, location, ok := parser.ParseDirective(name, content); ok {
			out.Directives = append(out.Directives, directive{name, value, line(location)})
		}
	}
	content = bytes.TrimPrefix(content, []byte{0xEF, 0xBB, 0xBF})
	out.Shebang = bytes.HasPrefix(content, []byte("#!"))
	if out.Shebang {
		_, content, _ = bytes.Cut(content, []byte("\n"))
	}
	out.JSON = json.Valid(content)
}

func (out *reading) argument(pairs []instructions.KeyValuePairOptional, location []parser.Range) {
	for _, pair := range pairs {
		out.Arguments = append(out.Arguments, directive{pair.Key, pair.ValueString(), line(location)})
	}
}

// images answers BuildKit's questions about base images from what the request gave, and records each.
type images struct {
	mutex   sync.Mutex
	configs map[string]json.RawMessage
	asked   map[string]bool
}

func (r *images) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.asked[ref] = true
	var config map[string]any
	if given, ok := r.configs[ref]; ok {
		if err := json.Unmarshal(given, &config); err != nil {
			return "", "", nil, fmt.Errorf("configuration of %s: %w", ref, err)
		}
	} else {
		config = map[string]any{"config": map[string]any{}}
		if opt.Platform != nil {
			config["os"], config["architecture"] = opt.Platform.OS, opt.Platform.Architecture
		}
	}
	for key := range config {
		if strings.EqualFold(key, "rootfs") { // Go reads a name in any case, and merges the values of several
			delete(config, key)
		}
	}
	// An image without layers is no source, whatever its configuration says. By its layer, `findImage` finds it again.
	config["rootfs"] = map[string]any{"type": "layers", "diff_ids": []string{digest.FromString(ref).String()}}
	content, err := json.Marshal(config)
	return ref, "", content, err
}

// findImage returns the name of the image with these layers, which no instruction changes, unlike labels.
func (r *images) findImage(layers []digest.Digest) (string, bool) {
	for ref := range r.asked {
		if len(layers) == 1 && layers[0] == digest.FromString(ref) {
			return ref, true
		}
	}
	return "", false
}

func convert(ctx context.Context, input request, name string) (out target) {
	out = target{Graph: emptyGraph(), Images: []string{}}
	defer func() { // what BuildKit's code cannot convert is an error of the Dockerfile, never half a reading
		if found := recover(); found != nil {
			out = target{Graph: emptyGraph(), Images: []string{}, Error: &problem{fmt.Sprint(found), 0, false}}
		}
	}()
	platform, err := platforms.Parse(input.Platform)
	if err != nil {
		out.Error = located(err)
		return out
	}
	resolver := &images{configs: input.Configs, asked: map[string]bool{}}
	arguments := map[string]string{}
	for key, value := range input.BuildArgs {
		arguments[key] = value
	}
	capabilities := pb.Caps.CapSet(pb.Caps.All())
	state, image, base, _, err := dockerfile2llb.Dockerfile2LLB(ctx, input.Dockerfile, dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			BuildArgs:        arguments,
			CacheIDNamespace: input.Namespace,
			Target:           name,
			TargetPlatforms:  []ocispecs.Platform{platform},
			BuildPlatforms:   []ocispecs.Platform{platforms.Normalize(platforms.DefaultSpec())},
		},
		SourceMap:      llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", input.Dockerfile),
		TargetPlatform: &platform,
		MetaResolver:   resolver,
		LLBCaps:        &capabilities,
	})
	for ref := range resolver.asked {
		out.Images = append(out.Images, ref)
	}
	sort.Strings(out.Images)
	if err != nil {
		out.Error = located(err)
		return out
	}
	if out.Error = excess(image); out.Error != nil {
		return out
	}
	if base != nil {
		var ok bool
		if out.Base, ok = resolver.findImage(base.RootFS.DiffIDs); !ok {
			out.Error = &problem{"the image that the last stage is built on is unknown", 0, false}
			return out
		}
	}
	definition, err := state.Marshal(ctx, llb.Platform(platform))
	if err != nil {
		out.Error = located(err)
		return out
	}
	if size := total(definition.Def); size > largest {
		out.Error = &problem{fmt.Sprintf("its build definition has %d bytes, more than %d", size, largest), 0, true}
		return out
	}
	found, err := graph(definition.Def)
	if err != nil {
		out.Error = located(err)
		return out
	}
	out.Graph = found
	return out
}

// excess refuses an image whose configuration and history are larger than any that a person writes.
func excess(image *dockerspec.DockerOCIImage) *problem {
	content, err := json.Marshal(image)
	if err != nil {
		return located(err)
	}
	if len(content) > largest {
		return &problem{fmt.Sprintf("its variables and instructions, expanded, have %d bytes, more than %d", len(content), largest), 0, true}
	}
	return nil
}

func total(parts [][]byte) (size int) {
	for _, part := range parts {
		size += len(part)
	}
	return size
}

func located(err error) *problem {
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 {
		return &problem{err.Error(), line(at.Locations[0]), false}
	}
	return &problem{err.Error(), 0, false}
}

func line(location []parser.Range) int {
	if len(location) == 0 {
		return 0
	}
	return location[0].Start.Line
}
