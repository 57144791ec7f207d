package bootstrap

import (
	"encoding/json"
	"testing"
)

func TestFillIn(t *testing.T) {
	tests := []struct {
		subnets string
		want    map[string]any
	}{
		{"10.244.0.0/16", map[string]any{"Network": "10.244.0.0/16"}},
		{"fd00:244::/56", map[string]any{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:244::/56"}},
		{"10.244.0.0/16,fd00:244::/56", map[string]any{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:244::/56"}},
		{"fd00:244::/56,10.244.0.0/16", map[string]any{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:244::/56"}},
	}
	for _, tt := range tests {
		var got map[string]any
		if err := json.Unmarshal([]byte(fillIn("{__POD_NETWORK__}", tt.subnets)), &got); err != nil {
			t.Errorf("%s: %s", tt.subnets, err)
			continue
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: have %v, want %v", tt.subnets, got, tt.want)
		}
		for field, value := range tt.want {
			if got[field] != value {
				t.Errorf("%s: %s is %v, want %v", tt.subnets, field, got[field], value)
			}
		}
	}
	if got := fillIn("subnet: __POD_SUBNET__", "10.244.0.0/16"); got != "subnet: 10.244.0.0/16" {
		t.Errorf("have %q", got)
	}
}
