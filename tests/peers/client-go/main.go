// A program as controllers are written with client-go: typed informers over protobuf, dynamic informers on a custom
// resource, a work of updates with conflict retries, leader election by a lease. It prints what it saw.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiext "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"
)

const namespace = "go"

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// expect prints count events of a channel in the order of their names: informers may coalesce nothing here, but
// deliver two objects in either order.
func expect(what string, events <-chan string, count int) {
	var seen []string
	for range count {
		select {
		case event := <-events:
			seen = append(seen, event)
		case <-time.After(20 * time.Second):
			must(fmt.Errorf("%s: %d of %d events: %v", what, len(seen), count, seen))
		}
	}
	sort.Strings(seen)
	for _, event := range seen {
		fmt.Println(what, event)
	}
}

func handler(events chan<- string) cache.ResourceEventHandlerFuncs {
	name := func(object any) string {
		if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = tombstone.Obj
		}
		return object.(metav1.Object).GetName()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { events <- "added " + name(object) },
		UpdateFunc: func(_, object any) { events <- "updated " + name(object) },
		DeleteFunc: func(object any) { events <- "deleted " + name(object) },
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	must(err)
	config.QPS, config.Burst = 500, 500
	typedConfig := rest.CopyConfig(config)
	typedConfig.ContentType = "application/vnd.kubernetes.protobuf"
	typedConfig.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	typed := kubernetes.NewForConfigOrDie(typedConfig)

	_, err = typed.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	must(err)
	typedInformers(ctx, typed)
	typedWrites(ctx, typed)
	dynamicInformers(ctx, config)
	election(ctx, typed)
	must(typed.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}))
	must(wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := typed.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	}))
	fmt.Println("namespace gone")
}

func typedInformers(ctx context.Context, client kubernetes.Interface) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = "app=demo" }))
	events := make(chan string, 1000)
	maps := factory.Core().V1().ConfigMaps()
	_, err := maps.Informer().AddEventHandler(handler(events))
	must(err)
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		fmt.Println("synced", kind, synced)
	}
	api := client.CoreV1().ConfigMaps(namespace)
	for i := range 20 {
		_, err := api.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("map-%02d", i), Labels: map[string]string{"app": "demo"}},
			Data:       map[string]string{"n": fmt.Sprint(i)}, BinaryData: map[string][]byte{"b": {0, 1, 255}},
		}, metav1.CreateOptions{})
		must(err)
	}
	expect("typed", events, 20)
	_, err = api.Patch(ctx, "map-03", types.StrategicMergePatchType, []byte(`{"data":{"n":"three"}}`), metav1.PatchOptions{})
	must(err)
	expect("typed", events, 1)
	_, err = api.Patch(ctx, "map-04", types.MergePatchType, []byte(`{"metadata":{"labels":{"app":null}}}`), metav1.PatchOptions{})
	must(err)
	must(api.Delete(ctx, "map-05", metav1.DeleteOptions{}))
	expect("typed", events, 2)
	cached, err := maps.Lister().ConfigMaps(namespace).Get("map-03")
	must(err)
	fmt.Println("cached", cached.Data["n"], cached.BinaryData["b"], cached.Kind)
	page, err := api.List(ctx, metav1.ListOptions{Limit: 7, LabelSelector: "app=demo"})
	must(err)
	fmt.Println("page", len(page.Items), page.Continue != "")
	rest, err := api.List(ctx, metav1.ListOptions{Limit: 50, Continue: page.Continue, LabelSelector: "app=demo"})
	must(err)
	fmt.Println("rest", len(rest.Items), rest.ResourceVersion == page.ResourceVersion)
	must(api.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=demo"}))
	expect("typed", events, 18)
}

func typedWrites(ctx context.Context, client kubernetes.Interface) {
	secrets := client.CoreV1().Secrets(namespace)
	secret, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "key-"}, StringData: map[string]string{"p": "w"}}, metav1.CreateOptions{})
	must(err)
	fmt.Println("secret", secret.Type, string(secret.Data["p"]), len(secret.Name), secret.StringData)

	pod, err := client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "idle"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none:1", Command: []string{"sleep"}}}},
	}, metav1.CreateOptions{})
	must(err)
	fmt.Println("pod", pod.Status.Phase, pod.Spec.ServiceAccountName, pod.Spec.Containers[0].ImagePullPolicy, *pod.Spec.TerminationGracePeriodSeconds)
	pod.Spec.Containers[0].Command = []string{"other"}
	_, err = client.CoreV1().Pods(namespace).Update(ctx, pod, metav1.UpdateOptions{})
	fmt.Println("immutable", apierrors.IsInvalid(err))
	must(client.CoreV1().Pods(namespace).Delete(ctx, "idle", *metav1.NewDeleteOptions(0)))

	// several writers, each retries on conflict
	maps := client.CoreV1().ConfigMaps(namespace)
	_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "counter"}}, metav1.CreateOptions{})
	must(err)
	done := make(chan error)
	for writer := range 4 {
		go func() {
			var err error
			for turn := 0; turn < 5 && err == nil; turn++ {
				err = retry.RetryOnConflict(wait.Backoff{Steps: 200, Duration: time.Millisecond, Factor: 1, Jitter: 3}, func() error {
					counter, err := maps.Get(ctx, "counter", metav1.GetOptions{})
					if err != nil {
						return err
					}
					if counter.Data == nil {
						counter.Data = map[string]string{}
					}
					counter.Data[fmt.Sprintf("w%d-%d", writer, turn)] = "x"
					_, err = maps.Update(ctx, counter, metav1.UpdateOptions{})
					return err
				})
			}
			done <- err
		}()
	}
	for range 4 {
		must(<-done)
	}
	counter, err := maps.Get(ctx, "counter", metav1.GetOptions{})
	must(err)
	fmt.Println("counted", len(counter.Data))

	applied, err := maps.Apply(ctx, applycore.ConfigMap("applied", namespace).WithData(map[string]string{"a": "1"}), metav1.ApplyOptions{FieldManager: "me"})
	must(err)
	fmt.Println("applied", applied.Data, len(applied.ManagedFields))
	_, err = maps.Apply(ctx, applycore.ConfigMap("applied", namespace).WithData(map[string]string{"a": "2"}), metav1.ApplyOptions{FieldManager: "you"})
	fmt.Println("conflict", apierrors.IsConflict(err), err)

	_, err = client.RbacV1().Roles(namespace).Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}},
	}, metav1.CreateOptions{})
	must(err)
	_, err = maps.Get(ctx, "nothing", metav1.GetOptions{})
	fmt.Println("missing", apierrors.IsNotFound(err), err)
	_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "applied"}}, metav1.CreateOptions{})
	fmt.Println("exists", apierrors.IsAlreadyExists(err), err)
}

func dynamicInformers(ctx context.Context, config *rest.Config) {
	definitions := apiextclient.NewForConfigOrDie(config).ApiextensionsV1().CustomResourceDefinitions()
	preserve := true
	_, err := definitions.Create(ctx, &apiext.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "gophers.example.test"},
		Spec: apiext.CustomResourceDefinitionSpec{
			Group: "example.test", Scope: apiext.NamespaceScoped,
			Names: apiext.CustomResourceDefinitionNames{Plural: "gophers", Singular: "gopher", Kind: "Gopher"},
			Versions: []apiext.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema:       &apiext.CustomResourceValidation{OpenAPIV3Schema: &apiext.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &preserve}},
				Subresources: &apiext.CustomResourceSubresources{Status: &apiext.CustomResourceSubresourceStatus{}},
			}},
		},
	}, metav1.CreateOptions{})
	must(err)
	must(wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		definition, err := definitions.Get(ctx, "gophers.example.test", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, condition := range definition.Status.Conditions {
			if condition.Type == apiext.Established && condition.Status == apiext.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	}))
	client := dynamic.NewForConfigOrDie(config)
	resource := schema.GroupVersionResource{Group: "example.test", Version: "v1", Resource: "gophers"}
	gophers := client.Resource(resource).Namespace(namespace)
	// established is said a moment before it is served
	must(wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		_, err := gophers.List(ctx, metav1.ListOptions{})
		return err == nil, nil
	}))
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, namespace, nil)
	events := make(chan string, 100)
	informer := factory.ForResource(resource).Informer()
	_, err = informer.AddEventHandler(handler(events))
	must(err)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	gopher := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.test/v1", "kind": "Gopher", "metadata": map[string]any{"name": "one"},
		"spec": map[string]any{"holes": int64(3)}, "status": map[string]any{"ignored": true},
	}}
	made, err := gophers.Create(ctx, gopher, metav1.CreateOptions{})
	must(err)
	fmt.Println("gopher", made.Object["spec"], made.Object["status"], made.GetGeneration())
	must(unstructured.SetNestedField(made.Object, "digging", "status", "mood"))
	made, err = gophers.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	must(err)
	fmt.Println("gopher", made.Object["spec"], made.Object["status"], made.GetGeneration())
	must(gophers.Delete(ctx, "one", metav1.DeleteOptions{}))
	expect("dynamic", events, 3)
	must(definitions.Delete(ctx, "gophers.example.test", metav1.DeleteOptions{}))
}

// election runs two candidates one after the other: the second leads when the first has released the lease.
func election(ctx context.Context, client kubernetes.Interface) {
	for _, identity := range []string{"first", "second"} {
		lock := &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: namespace},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		}
		leading, stop := context.WithCancel(ctx)
		leaderelection.RunOrDie(leading, leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: 12 * time.Second, RenewDeadline: 8 * time.Second, RetryPeriod: 2 * time.Second,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) {
					fmt.Println(identity, "leads")
					// between two renewals: one that is under way when we stop makes the release fail
					time.Sleep(700 * time.Millisecond)
					stop()
				},
				OnStoppedLeading: func() { fmt.Println(identity, "leads no more") },
			},
		})
		stop()
	}
	lease, err := client.CoordinationV1().Leases(namespace).Get(ctx, "leader", metav1.GetOptions{})
	must(err)
	fmt.Printf("lease held by %q, %d transitions\n", *lease.Spec.HolderIdentity, *lease.Spec.LeaseTransitions)
}
