package azure

import (
	"encoding/xml"
	"errors"
	"fmt"
)

// goalState is what the wire server wants of the machine, as far as a report repeats it.
type goalState struct {
	XMLName     xml.Name `xml:"GoalState"`
	Incarnation string   `xml:"Incarnation"`
	ContainerID string   `xml:"Container>ContainerId"`
	InstanceID  string   `xml:"Container>RoleInstanceList>RoleInstance>InstanceId"`
}

func parseGoalState(text []byte) (goalState, error) {
	var state goalState
	if err := xml.Unmarshal(text, &state); err != nil {
		return state, fmt.Errorf("reading goal state: %w", err)
	}
	if state.Incarnation == "" || state.ContainerID == "" || state.InstanceID == "" {
		return state, errors.New("reading goal state: Incarnation, ContainerId or InstanceId is missing")
	}
	return state, nil
}

// renderReady is the report that the machine is what state wants.
func (state goalState) renderReady() ([]byte, error) {
	text, err := xml.Marshal(struct {
		XMLName     xml.Name `xml:"Health"`
		Incarnation string   `xml:"GoalStateIncarnation"`
		ContainerID string   `xml:"Container>ContainerId"`
		InstanceID  string   `xml:"Container>RoleInstanceList>Role>InstanceId"`
		State       string   `xml:"Container>RoleInstanceList>Role>Health>State"`
	}{Incarnation: state.Incarnation, ContainerID: state.ContainerID, InstanceID: state.InstanceID, State: "Ready"})
	if err != nil {
		return nil, fmt.Errorf("rendering health: %w", err)
	}
	return append([]byte(xml.Header), text...), nil
}
