"""The edge's certificate, and whatever else prevents a TLS connection."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import EXTERNAL
from mlflow_proxy_e2e.causes.snippets import snippets
from mlflow_proxy_e2e.facts.sign import UNTOLD
from mlflow_proxy_e2e.facts.stopped import first_connection

# An unknown authority and a missing intermediate certificate look the same to a client that does not know the authority.
unproved = first_connection("certificate-unproved")


# A certificate that AWS issues is renewed by AWS.
ISSUED = snippets(
    aws="""
        aws acm request-certificate --domain-name mlflow.example.com --validation-method DNS
        # once it is validated; AWS renews it by itself
        aws elbv2 modify-listener --listener-arn "$HTTPS_LISTENER_ARN" --certificates "CertificateArn=$CERTIFICATE_ARN"
    """
)

CAUSES = (
    Cause(
        id=CauseId("tls-hostname"),
        hop="edge",
        severity="down",
        symptom="a certificate error on every call through the external URL",
        what="the certificate is for another name",
        remedy="issue the certificate for the name that clients use",
        reports=("mlflow#10029",),
        shows=first_connection("certificate-name"),
        reddens=(EXTERNAL,),
        fixes=ISSUED,
    ),
    Cause(
        id=CauseId("tls-expired"),
        hop="edge",
        severity="down",
        symptom="a certificate error on every call through the external URL, since a certain day",
        what="the certificate has expired",
        remedy="renew the certificate, and automate its renewal",
        reports=("mlflow#4032",),
        shows=first_connection("certificate-expired"),
        reddens=(EXTERNAL,),
        fixes=ISSUED,
    ),
    Cause(
        id=CauseId("tls-early"),
        hop="edge",
        severity="down",
        symptom="a certificate error on every call through the external URL, until a certain day",
        what="the certificate is not valid yet",
        remedy="correct the clocks, or wait until the certificate is valid",
        shows=first_connection("certificate-early"),
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("tls-chain"),
        hop="edge",
        severity="down",
        symptom="a certificate error in programs but not in browsers, which remember or fetch the missing certificate",
        what="the edge presents its own certificate without the intermediate one that signed it",
        remedy="present the whole chain",
        reports=("mlflow#4032",),
        shows=unproved & UNTOLD,
        reddens=(EXTERNAL,),
        fixes=snippets(
            envoy="""
                # of the DownstreamTlsContext
                common_tls_context:
                  tls_certificates:
                    - certificate_chain: { filename: fullchain.pem } # the certificate, then the intermediate ones
                      private_key: { filename: privkey.pem }
            """,
            nginx="""
                server {
                    listen 443 ssl;
                    ssl_certificate fullchain.pem; # the certificate, then the intermediate ones
                    ssl_certificate_key privkey.pem;
                }
            """,
            aws="""
                aws acm import-certificate --certificate-arn "$CERTIFICATE_ARN" --certificate fileb://cert.pem \\
                  --private-key fileb://privkey.pem --certificate-chain fileb://chain.pem
            """,
        ),
    ),
    Cause(
        id=CauseId("tls-authority-unknown"),
        hop="edge",
        severity="down",
        symptom="a certificate error on machines that do not trust the certificate's issuer",
        what="the certificate was issued by an authority that this machine does not trust",
        remedy="name the authority in the profile (ca), or use a certificate from one that clients trust",
        shows=first_connection("certificate-unknown") | (unproved & UNTOLD),
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("tls-missing"),
        hop="edge",
        severity="down",
        symptom="an error about the TLS version or record on every call through the external URL",
        what="the edge speaks plain HTTP on the HTTPS port",
        remedy="configure that listener with its certificate",
        shows=first_connection("not-tls"),
        reddens=(EXTERNAL,),
        fixes=snippets(
            envoy="""
                filter_chains:
                  - transport_socket:
                      name: envoy.transport_sockets.tls
                      typed_config:
                        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
                        common_tls_context:
                          tls_certificates:
                            - certificate_chain: { filename: fullchain.pem }
                              private_key: { filename: privkey.pem }
            """,
            nginx="""
                server {
                    listen 443 ssl; # without "ssl", it is plain HTTP
                    ssl_certificate fullchain.pem;
                    ssl_certificate_key privkey.pem;
                }
            """,
            aws="""
                aws elbv2 modify-listener --listener-arn "$LISTENER_ARN" --protocol HTTPS --port 443 \\
                  --certificates "CertificateArn=$CERTIFICATE_ARN" --ssl-policy ELBSecurityPolicy-TLS13-1-2-2021-06
            """,
        ),
    ),
    Cause(
        id=CauseId("tls-handshake"),
        hop="edge",
        severity="down",
        symptom="the TLS handshake fails on every call through the external URL",
        what="no TLS connection can be established",
        remedy="check which TLS versions, server names and client certificates the server requires",
        shows=first_connection("no-tls"),
        reddens=(EXTERNAL,),
        fixes=snippets(
            envoy="""
                # of the DownstreamTlsContext
                require_client_certificate: false
                common_tls_context:
                  tls_params: { tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3 }
            """,
            nginx="""
                server {
                    ssl_protocols TLSv1.2 TLSv1.3;
                    ssl_verify_client off;
                }
            """,
            aws="""
                aws elbv2 modify-listener --listener-arn "$HTTPS_LISTENER_ARN" \\
                  --ssl-policy ELBSecurityPolicy-TLS13-1-2-2021-06 --mutual-authentication Mode=off
            """,
        ),
    ),
)
