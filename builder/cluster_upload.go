package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/kiln-os/kiln/builder/authority"
)

// uploadedName is the Secret in which kubeadm keeps the certificates, and the role that lets a bootstrap token read it
// (kubeadm v1.36, constants: KubeadmCertsSecret, KubeadmCertsClusterRoleName).
const (
	uploadedName = "kubeadm-certs"
	uploadedRole = "kubeadm:kubeadm-certs"
)

// uploadCertificates brings the certificates into the cluster for control planes that are still to come, as kubeadm's
// upload-certs does, with one difference: kubeadm makes a token of two hours their owner, here it is the token that the
// nodes join with. Once it has expired and was removed, the cluster's garbage collector removes them.
func (a clusterAPI) uploadCertificates(ctx context.Context, s authority.Secrets, token issue, uid string) error {
	data, err := authority.Upload(s.Authorities, s.CertificateKey)
	if err != nil {
		return err
	}
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/"
	for _, one := range []applied{
		{"uploading the certificates", "/api/v1/namespaces/kube-system/secrets/" + uploadedName, map[string]any{
			"apiVersion": "v1", "kind": "Secret", "data": data,
			// It is no controller reference: kubeadm's own, which the Secret may still have, is one, and there can be but one.
			"metadata": map[string]any{"name": uploadedName, "namespace": "kube-system", "ownerReferences": []map[string]string{
				{"apiVersion": "v1", "kind": "Secret", "name": "bootstrap-token-" + token.id, "uid": uid},
			}},
		}},
		// They are there already where the cluster was founded with uploaded certificates.
		{"letting nodes read the certificates", rbac + "roles/" + uploadedRole, map[string]any{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
			"metadata": map[string]string{"name": uploadedRole, "namespace": "kube-system"},
			"rules":    []map[string][]string{{"verbs": {"get"}, "apiGroups": {""}, "resources": {"secrets"}, "resourceNames": {uploadedName}}},
		}},
		{"letting nodes read the certificates", rbac + "rolebindings/" + uploadedRole, map[string]any{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
			"metadata": map[string]string{"name": uploadedRole, "namespace": "kube-system"},
			"roleRef":  map[string]string{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": uploadedRole},
			"subjects": []map[string]string{{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": joinersGroup}},
		}},
	} {
		if _, err := a.apply(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

// applied is an object that is applied (server-side apply), so that doing it again does no harm.
type applied struct {
	// doing is what errors begin with, path the object's own.
	doing, path string
	object      map[string]any
}

// apply makes or changes the object and returns its UID.
func (a clusterAPI) apply(ctx context.Context, one applied) (uid string, err error) {
	code, answer, err := a.do(ctx, request{method: http.MethodPatch, contentType: "application/apply-patch+yaml", body: one.object,
		path: one.path + "?fieldManager=kiln&force=true"})
	if err != nil {
		return "", err
	}
	if code != http.StatusOK && code != http.StatusCreated {
		return "", a.refused(one.doing, code, answer)
	}
	var made struct {
		Metadata struct{ UID string }
	}
	if json.Unmarshal(answer, &made) != nil || made.Metadata.UID == "" {
		// Not wrapped: the answer may quote a secret.
		return "", fmt.Errorf("%s: the API at %s answered with something that is no object", one.doing, a.server)
	}
	return made.Metadata.UID, nil
}
