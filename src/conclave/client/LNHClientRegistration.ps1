<#
.SYNOPSIS
Register this Windows client with a Conclave cluster.

.DESCRIPTION
Makes a key and a certificate request here, has the cluster certify it, and writes the five
LNHServer## entries into crystoki.ini. Needs PowerShell 7.3 or newer and curl.exe, which Windows
brings.

Nobody has run this script yet: there is no Windows where Conclave is developed, and no PKCS#11
module of Conclave for it. It registers as LNHClientRegistration.sh does, which is tested, but does
not ask again when an answer is lost, leaves no hints of the members, does not heed another run at
the same time, and neither lists, removes nor renews.

What holds at every moment: neither password nor token is asked for, or sent, before the CA's
fingerprint is confirmed; neither is an argument or a file; no key file is overwritten; crystoki.ini
is replaced whole or not at all.

.EXAMPLE
./LNHClientRegistration.ps1 -n 192.0.2.5 -i 192.0.2.4 -c 528b9b72-c305-4dd1-bebc-a4ca24f8c28b -token
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)][ValidatePattern('^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$')][string]$n,
    [Parameter(Mandatory)][ValidatePattern('^[A-Za-z0-9:][A-Za-z0-9.:-]{0,254}$')][string]$i,
    [Parameter(Mandatory)]
    [ValidatePattern('^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$')][string]$c,
    [ValidatePattern('^[^\x00-\x1f\x7f]{0,64}$')][string]$l = '',
    [ValidatePattern('^([A-Za-z_][A-Za-z0-9._-]{0,31})?$')][string]$u = '',
    [switch]$m,
    [switch]$token,
    [ValidateRange(1, 65535)][int]$adminPort = 50070,
    [ValidatePattern('^[A-Za-z_][A-Za-z0-9._-]{0,31}$')][string]$adminUser = 'admin',
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$')][string]$serverCn = 'lnh.thalesgroup.com',
    [string]$fingerprint = '',
    [string]$clientDir = 'C:\Program Files\SafeNet\LunaClient',
    [switch]$force
)
Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'
$section = 'LunaSA Client'

function Stop-With([string]$why) { throw "LNHClientRegistration: $why" }

# What curl.exe reads of its standard input: a word of its configuration, in quotes.
function Get-Quoted([string]$word) {
    '"' + $word.Replace('\', '\\').Replace('"', '\"').Replace("`r", '').Replace("`n", '') + '"'
}

# Ask for a path; what is secret goes over standard input. Returns status and answer.
function Invoke-Member([string[]]$options, [string]$configuration) {
    $answer = Join-Path $work 'answer'
    $shared = @('-q', '--silent', '--show-error', '--noproxy', '*', '--proto', '=https', '--tlsv1.2',
        '--connect-timeout', '10', '--max-time', '60', '--max-filesize', '1000000',
        '--output', $answer, '--write-out', '%{http_code}', '--config', '-')
    $status = $configuration | & curl.exe @shared @options
    if ($LASTEXITCODE -ne 0) { Stop-With 'the request to the member failed; nothing was changed here' }
    [pscustomobject]@{ Status = [int]$status; Body = Get-Content -Raw $answer | ConvertFrom-Json }
}

# The file's lines without those that set one of the names in the section; where the section ends.
function Edit-Ini([string[]]$lines, [System.Collections.Specialized.OrderedDictionary]$values) {
    $out = [System.Collections.Generic.List[string]]::new()
    $inside = $false
    $at = -1
    foreach ($line in $lines) {
        if ($line -match '^\s*\[(.+)\]\s*$') { $inside = $Matches[1].Trim() -eq $section }
        $ours = $inside -and $line -match '^\s*([^=;#]+?)\s*=' -and $values.Contains($Matches[1])
        if ($ours) { continue }
        $out.Add($line)
        if ($inside -and $line.Trim()) { $at = $out.Count }
    }
    if ($at -lt 0) { $out.Add("[$section]"); $at = $out.Count }
    foreach ($name in $values.Keys) { $out.Insert($at, "$name=$($values[$name])"); $at++ }
    $out
}

function Get-Entry([string[]]$lines, [string]$name) {
    foreach ($line in $lines) {
        if ($line -match "^\s*$name\s*=\s*(.*?)\s*$") { return $Matches[1] }
    }
    ''
}

$ini = Join-Path ($env:ChrystokiConfigurationPath ?? $clientDir) 'crystoki.ini'
$lines = if (Test-Path $ini) { @(Get-Content $ini) } else { @() }
$index = 0
if ($m) {
    $index = 1..9 | Where-Object { -not (Get-Entry $lines ('LNHServer{0:00}' -f $_)) } |
        Select-Object -First 1
    if (-not $index) { Stop-With 'all ten indexes hold a cluster' }
}
$number = '{0:00}' -f $index
$present = Get-Entry $lines "LNHServer$number"
if ($present -and -not $force) { Stop-With "index $number holds the cluster at $present; -force replaces it" }

$certificates = Join-Path $clientDir "cert\client\$c"
$certificateFile = Join-Path $certificates "$n.pem"
$keyFile = Join-Path $certificates "${n}Key.pem"
$caFile = Join-Path $clientDir "cert\server\$c\lnh_ca.pem"
foreach ($path in $certificateFile, $keyFile) {
    if (Test-Path $path) { Stop-With "$path exists and is not touched; choose another name (-n)" }
}
$work = New-Item -ItemType Directory -Path (Join-Path $clientDir ".registration.$PID")
try {
    $at = if ($i.Contains(':')) { "[$i]" } else { $i }
    # Nothing secret is sent here, and nothing in the answer is believed before it is confirmed.
    $told = Invoke-Member @('--insecure', "https://${at}:$adminPort/api/cluster/ca") ''
    if ($told.Status -ne 200) { Stop-With "the member tells no cluster CA: $($told.Status)" }
    if ($told.Body.clusterUUID -ne $c) { Stop-With "the member is of cluster $($told.Body.clusterUUID)" }
    $ca = [System.Security.Cryptography.X509Certificates.X509Certificate2]::CreateFromPem($told.Body.caCertificate)
    $found = $ca.GetCertHashString([System.Security.Cryptography.HashAlgorithmName]::SHA256)
    if ($fingerprint) {
        if ($found -ne $fingerprint.Replace(':', '').Replace(' ', '').ToUpperInvariant()) {
            Stop-With 'that is not the fingerprint given; nothing was sent'
        }
    }
    else {
        Write-Host "SHA-256 fingerprint of the cluster CA: $found"
        if ((Read-Host "Type 'proceed' if it is what the administrator tells you") -ne 'proceed') {
            Stop-With 'stopped; nothing was sent'
        }
    }
    $caWork = Join-Path $work 'lnh_ca.pem'
    Set-Content -Path $caWork -Value $ca.ExportCertificatePem() -Encoding ascii

    $key = [System.Security.Cryptography.ECDsa]::Create(
        [System.Security.Cryptography.ECCurve+NamedCurves]::nistP256)
    $request = [System.Security.Cryptography.X509Certificates.CertificateRequest]::new(
        "CN=$n", $key, [System.Security.Cryptography.HashAlgorithmName]::SHA256)
    $body = [ordered]@{ csr = $request.CreateSigningRequestPem() }
    if ($l) { $body.label = $l }
    $prompt = if ($token) { 'Enrolment token' } else { "Password of appliance user $adminUser" }
    $secret = Read-Host -Prompt $prompt -AsSecureString | ConvertFrom-SecureString -AsPlainText
    $place = 'clients'
    $configuration = ''
    if ($token) {
        if ($u) { Stop-With '-u does not go with a token: who made it set the user' }
        $place = 'clients/actions/enrol'
        $body.token = $secret
    }
    else {
        if ($u) { $body.monitorUser = $u }
        $configuration = "user = $(Get-Quoted "${adminUser}:$secret")`n"
    }
    $json = $body | ConvertTo-Json -Compress
    $configuration += "data-binary = $(Get-Quoted $json)`n"
    $made = Invoke-Member @('--cacert', $caWork, '--header', 'Content-Type: application/json',
        '--connect-to', "${serverCn}:${adminPort}:${at}:$adminPort",
        "https://${serverCn}:$adminPort/api/clusters/$c/$place") $configuration
    if ($made.Status -notin 200, 201) { Stop-With "the cluster did not certify this client: $($made.Body.details)" }
    if ($made.Body.serverCommonName -ne $serverCn) { Stop-With 'the members have another name (-serverCn)' }
    $certificate = [System.Security.Cryptography.X509Certificates.X509Certificate2]::CreateFromPem($made.Body.certificate)
    $own = [Convert]::ToBase64String($key.ExportSubjectPublicKeyInfo())
    if ([Convert]::ToBase64String($certificate.PublicKey.ExportSubjectPublicKeyInfo()) -ne $own) {
        Stop-With 'the certificate that came back is for another key'
    }

    $null = New-Item -ItemType Directory -Force -Path $certificates, (Split-Path $caFile)
    # CreateNew: a file that has come meanwhile is not overwritten. The directory's rights protect it.
    $pem = [System.Text.Encoding]::ASCII.GetBytes($key.ExportPkcs8PrivateKeyPem())
    $stream = [System.IO.File]::Open($keyFile, [System.IO.FileMode]::CreateNew)
    try { $stream.Write($pem, 0, $pem.Length) } finally { $stream.Dispose() }
    & icacls.exe $keyFile /inheritance:r /grant:r "$env:USERNAME`:R" | Out-Null
    Set-Content -Path $certificateFile -Value $made.Body.certificate -Encoding ascii
    Copy-Item $caWork $caFile -Force
    $values = [ordered]@{
        "LNHServer$number"           = "${at}:$($made.Body.cryptoPort)"
        "LNHServerClientCert$number" = $certificateFile
        "LNHServerClientKey$number"  = $keyFile
        "LNHServerCAFile$number"     = $caFile
        "LNHServerCN$number"         = $serverCn
    }
    $new = "$ini.$PID.new"
    Set-Content -Path $new -Value (Edit-Ini $lines $values)
    Move-Item -Force $new $ini
    Write-Host "Client $n is registered with cluster $c, index $number of $ini."
}
finally {
    Remove-Item -Recurse -Force $work
}
