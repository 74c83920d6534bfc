"""Lints, renders, validates and packages the chart beside this file; see scripts/chart."""

import pathlib
import subprocess
import sys
import tempfile
import tomllib

import helm_python
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
KUBERNETES = "1.31"

# What must not be rendered, with a word of the reason.
REFUSED = [
    ({"replicas": 2}, "replicas"),
    ({"config": {"listen": "0.0.0.0:80"}}, "listen"),
    ({"persistence": {"accessModes": ["ReadWriteMany"]}}, "accessModes"),
    ({"ingress": {"enabled": True}}, "ingress.host"),
]


def documents(rendered):
    for name, text in rendered.items():
        if name.endswith(".txt"):
            continue
        for document in yaml.safe_load_all(text):
            if isinstance(document, dict) and "kind" in document:
                yield document


def check(document):
    if document["apiVersion"].startswith("monitoring.coreos.com/"):
        if document["kind"] == "PrometheusRule":
            with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
                yaml.safe_dump(document["spec"], file)
                file.flush()
                promtool = subprocess.check_output([HERE / "../../scripts/promtool"], text=True).strip()
                subprocess.run([promtool, "check", "rules", file.name], check=True, stdout=subprocess.DEVNULL)
        return
    kubernetes_validate.validate(document, KUBERNETES, strict=True)
    for name, text in (document.get("data") or {}).items():
        if name.endswith(".toml"):
            tomllib.loads(text)


def main(packages):
    chart = helm_python.Chart.load(str(HERE / "motorcade"))
    for file in sorted((HERE / "values").glob("*.yaml")):
        values = yaml.safe_load(file.read_text()) or {}
        found = list(documents(chart.render(values, name="fleet", namespace="ota")))
        for document in found:
            check(document)
        kinds = sorted(document["kind"] for document in found)
        assert {"StatefulSet", "Service", "ConfigMap"} <= set(kinds), kinds
        print(f"{file.name}: {', '.join(kinds)}")
    for values, word in REFUSED:
        try:
            chart.render(values, name="fleet", namespace="ota")
        except Exception as error:  # whatever the library raises, it names the reason
            assert word in str(error), error
        else:
            raise AssertionError(f"{values} was rendered")
    print(f"refused: {len(REFUSED)} sets of values, as they should be")
    print("lint:", helm_python.lint(str(HERE / "motorcade"), strict=True))
    packages.mkdir(parents=True, exist_ok=True)
    print("package:", helm_python.package(str(HERE / "motorcade"), destination=str(packages)))


main(pathlib.Path(sys.argv[1]))
