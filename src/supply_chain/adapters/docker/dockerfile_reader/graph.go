package main

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"
)

type source struct {
	Identifier string            `json:"identifier"`
	Attributes map[string]string `json:"attributes"`
}

type mount struct {
	Type   string `json:"type"`
	Target string `json:"target"`
	ID     string `json:"id"`
}

type exec struct {
	Command  string   `json:"command"`
	Network  string   `json:"network"`
	Security string   `json:"security"`
	Mounts   []mount  `json:"mounts"`
	Secrets  []string `json:"secrets"`
	Devices  []string `json:"devices"`
}

// Graph is what a build takes in and runs, of BuildKit's low-level build definition.
type Graph struct {
	Sources []source       `json:"sources"`
	Execs   []exec         `json:"execs"`
	Others  map[string]int `json:"others"`
}

func emptyGraph() Graph {
	return Graph{Sources: []source{}, Execs: []exec{}, Others: map[string]int{}}
}

func graph(definition [][]byte) (Graph, error) {
	out := emptyGraph()
	for _, content := range definition {
		var op pb.Op
		if err := proto.Unmarshal(content, &op); err != nil {
			return out, fmt.Errorf("an operation cannot be read: %w", err)
		}
		switch each := op.Op.(type) {
		case *pb.Op_Source:
			attributes := each.Source.Attrs
			if attributes == nil {
				attributes = map[string]string{}
			}
			out.Sources = append(out.Sources, source{each.Source.Identifier, attributes})
		case *pb.Op_Exec:
			out.Execs = append(out.Execs, execOf(each.Exec))
		case *pb.Op_File:
			out.Others["file"]++
		case *pb.Op_Merge:
			out.Others["merge"]++
		case *pb.Op_Diff:
			out.Others["diff"]++
		case *pb.Op_Build:
			out.Others["build"]++
		case nil: // the last one, which only names the result
		default:
			out.Others[fmt.Sprintf("%T", each)]++
		}
	}
	return out, nil
}

func execOf(op *pb.ExecOp) exec {
	out := exec{
		Command:  strings.Join(op.GetMeta().GetArgs(), " "),
		Network:  strings.ToLower(op.Network.String()),
		Security: strings.ToLower(op.Security.String()),
		Mounts:   []mount{},
		Secrets:  []string{},
		Devices:  []string{},
	}
	if len(out.Command) > 200 {
		out.Command = strings.ToValidUTF8(out.Command[:200], "")
	}
	for _, each := range op.Mounts {
		id := ""
		switch each.MountType {
		case pb.MountType_CACHE:
			id = each.GetCacheOpt().GetID()
		case pb.MountType_SECRET:
			id = each.GetSecretOpt().GetID()
		case pb.MountType_SSH:
			id = each.GetSSHOpt().GetID()
		}
		out.Mounts = append(out.Mounts, mount{strings.ToLower(each.MountType.String()), each.Dest, id})
	}
	for _, each := range op.Secretenv {
		out.Secrets = append(out.Secrets, each.ID)
	}
	for _, each := range op.CdiDevices {
		out.Devices = append(out.Devices, each.Name)
	}
	return out
}
